/** What the manager never exceeds, and why. */

/** A report older than this is not believed: programs report every second or few, and one may be lost. */
export const REPORT_FRESH_MS = 15_000;
/** Reports reach the database this often at most: each is a synchronous write, and memory has the newest. */
export const REPORT_KEEP_EVERY_MS = 10_000;
/** Requests of people and of other sites. */
export const BODY_BYTES_MAX = 256 * 1024;
/** Reports of 10,000 VMs, or of 1000 replicas with 2000 points each, which is 200 MB at worst and 30 MB in practice. */
export const REPORT_BYTES_MAX = 64 * 1024 * 1024;
/** How long a poll for orders is held. Proxies and NAT tables forget idle connections after 30 s and more. */
export const POLL_MS = 25_000;
export const TOKEN_LIFE_MS = 3_600_000;
/** Wrong tokens from one address within a minute, before it has to wait. */
export const WRONG_TOKENS_MAX = 10;
export const WRONG_TOKENS_WINDOW_MS = 60_000;
/** Addresses of which wrong tokens are counted; the oldest is forgotten first. */
export const ADDRESSES_MAX = 10_000;
/** Streams of events held open at the same time. */
export const STREAMS_MAX = 100;
/** Whether the reader of a stream still may read it is asked this often, and when people are changed here. */
export const STREAM_ADMIT_EVERY_MS = 5000;
/** A stream whose reader takes nothing for so long is closed; it resumes by its last id. */
export const STREAM_STALL_MS = 30_000;
/** A comment goes out this often, so that both ends notice a dead connection. */
export const STREAM_HEARTBEAT_MS = 10_000;
/** A stream says at most so often that reports came in: programs send them every second, and a page need not blink. */
export const STREAM_REPORTS_EVERY_MS = 1000;
/** Peaks of its age that are kept of a replica: enough for a plot in a row. */
export const AGE_PEAKS = 24;
/** Calls of another site's manager. */
export const PEER_TIMEOUT_MS = 5000;
/** Replicas and protections are compared with the other site this often. */
export const SYNC_EVERY_MS = 5000;
/** Claims that another site has not taken yet are told to it again this often. */
export const CLAIMS_TELL_EVERY_MS = 1000;
export const CLAIMS_TELL_TIMEOUT_MS = 2000;
/** And those that it has taken, in case that it has lost them. */
export const CLAIMS_TELL_AGAIN_MS = 60_000;
/** The copy of plans, groups and mappings is given to paired sites again, in case that they have lost it. */
export const DOCUMENTS_TELL_AGAIN_MS = 600_000;
/** In one request to another site. */
export const CLAIMS_TOLD_AT_ONCE = 500;
/** What is known of VMs is told to the other site in parts of so many, and again after this, in case it was lost. */
export const VM_FACTS_AT_ONCE = 500;
export const VM_FACTS_TELL_AGAIN_MS = 60_000;
/** How long a recovery waits for the old copy to be seen to yield, at a site that answers. */
export const YIELD_WAIT_MS = 10_000;
/** How long a question of a handover is held by the other site while it is under way. */
export const HANDOVER_WAIT_MS = 5000;
/** Readiness of plans is judged this often, */
export const READINESS_EVERY_MS = 5000;
/** and told of when it has lasted longer than programs take to report again after a restart. */
export const READINESS_LASTS_MS = 20_000;
/** Reports of recoveries and runs; with their pictures about a megabyte each. */
export const REPORTS_MAX = 500;
export const REPORTS_LOOK_EVERY_MS = 2000;
/** Plans that test themselves are looked at this often; one whose test was refused is left alone for so long. */
export const SCHEDULE_LOOK_EVERY_MS = 2000;
/** After the manager's start. */
export const SCHEDULE_BEGINS_MS = 20_000;
export const SCHEDULE_RETRY_MS = 600_000;
/** A report is not held up for longer by a picture that does not come. */
export const PICTURE_WAIT_MS = 15_000;
/** A session without a request for so long has ended, and any after a working day. */
export const SESSION_IDLE_MS = 3_600_000;
export const SESSION_LIFE_MS = 12 * 3_600_000;
/** That a session was used is written this often at most. */
export const SESSION_TOUCH_EVERY_MS = 60_000;
/** Wrong passwords for one name before its next attempt has to wait; the wait doubles up to its bound. */
export const SIGN_IN_FAILURES_FREE = 5;
export const SIGN_IN_WAIT_MAX_MS = 900_000;
/** Wrong passwords count no more after this. */
export const SIGN_IN_FORGET_MS = 86_400_000;
/** Rows of the audit log that stay in the database, and those that go into one archive. */
export const AUDIT_ROWS_MAX = 100_000;
export const AUDIT_ARCHIVE_ROWS = 10_000;
export const FIRST_LINK_LIFE_MS = 86_400_000;
export const MEMBERS_MAX = 1000;
export const PROTECTIONS_MAX = 10_000;
export const REPLICAS_MAX = 100_000;
/** What is wrong is looked at this often, */
export const ALARMS_EVERY_MS = 2000;
/** and has to last for so long, or to be well for so long: longer than a program takes to start again. */
export const ALARM_LASTS_MS = 10_000;
/** What a target of alarms was not told within a day is of no use to it. */
export const NOTICE_GIVE_UP_MS = 86_400_000;
export const NOTICES_LOOK_EVERY_MS = 2000;
/** That wait for one target. */
export const NOTICES_MAX = 1000;
/** Screens of VMs in browsers: of one host's, and in all. Each is two connections and a task. */
export const CONSOLES_PER_HOST_MAX = 16;
export const CONSOLES_MAX = 100;
/** The host's agent brings the screen within this time, */
export const CONSOLE_ARRIVE_MS = 15_000;
/** and the browser comes for it, with its next request. */
export const CONSOLE_FETCH_MS = 15_000;
/** A browser that answers no ping is gone. */
export const CONSOLE_PING_EVERY_MS = 20_000;
/** Nobody has touched keyboard or mouse for so long. */
export const CONSOLE_IDLE_MS = 30 * 60_000;
/** Of one message of a browser: a key, a movement of the mouse, a list of encodings, a text that is pasted. */
export const CONSOLE_MESSAGE_BYTES_MAX = 64 * 1024;
