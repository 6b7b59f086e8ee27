/** The backup job of a domain, and what libvirt tells of any job that is under way. */
import type { CallOptions } from './connection.ts';
import { BackupFlag, flagBits, JobStatsFlag } from './flags.ts';
import type { FlagNames } from './flags.ts';
import { JOB_PARAMETERS_MAX } from './limits.ts';
import { Procedure } from './procedures.ts';
import { nothing, string } from './remote.ts';
import type { Subject } from './remote.ts';
import { decodeTypedParameters } from './remote-types.ts';
import type { TypedValue } from './remote-types.ts';
import type { XdrReader } from './xdr.ts';

const JOB_KINDS = ['none', 'bounded', 'unbounded', 'completed', 'failed', 'cancelled'] as const;

export type JobKind = (typeof JOB_KINDS)[number] | 'unknown';

/** Progress in milliseconds and bytes; `none` means that no job is under way. */
export type JobProgress = {
  kind: JobKind;
  elapsedMs: number;
  remainingMs: number;
  totalBytes: number;
  processedBytes: number;
  remainingBytes: number;
};

/** libvirt's own names, such as `disk_temp_used`: the bytes of scratch space that a pull backup takes. */
export type JobStats = { kind: JobKind; parameters: Map<string, TypedValue> };

export class DomainBackup {
  readonly #subject: Subject;

  constructor(subject: Subject) {
    this.#subject = subject;
  }

  /**
   * Begins the backup of `backup-xml.ts`, with the checkpoint of `checkpoint-xml.ts` at the same moment. It goes on
   * until `end`. While another job is under way libvirt waits 30 s for its end before it refuses, and a call that was
   * given up meanwhile may still begin: after `timeout`, `cancelled` or `unreachable` ask `getXml`.
   */
  async begin(
    backupXml: string,
    checkpointXml?: string,
    flags: FlagNames<typeof BackupFlag> = [],
    options?: CallOptions,
  ): Promise<void> {
    await this.#subject.ask(
      'begin a backup of',
      {
        procedure: Procedure.domainBackupBegin,
        encode: (w) => w.string(backupXml).optionalString(checkpointXml),
        flags: flagBits(BackupFlag, flags),
        decode: nothing,
      },
      options,
    );
  }

  /** The backup under way, as libvirt completed it. Throws libvirt's error `noBackup` when there is none. */
  getXml(options?: CallOptions): Promise<string> {
    const ask = { procedure: Procedure.domainBackupGetXml, flags: 0, decode: string };
    return this.#subject.ask('read the backup of', ask, options);
  }

  /**
   * Ends the job under way whatever it is; for a pull backup this is the normal end. It returns when the end has
   * begun: the event `job-completed` tells when scratch files and socket are gone. A next `begin` waits for that.
   */
  end(options?: CallOptions): Promise<void> {
    return this.#subject.act('end the job of', Procedure.domainAbortJob, undefined, options);
  }

  getProgress(options?: CallOptions): Promise<JobProgress> {
    const ask = { procedure: Procedure.domainGetJobInfo, decode: decodeProgress };
    return this.#subject.ask('read the job of', ask, options);
  }

  /** Of the job under way or, with `completed`, of the last one. */
  getStats(flags: FlagNames<typeof JobStatsFlag> = [], options?: CallOptions): Promise<JobStats> {
    const decode = (r: XdrReader): JobStats => ({
      kind: jobKind(r.int()),
      parameters: decodeTypedParameters(r, JOB_PARAMETERS_MAX),
    });
    const ask = { procedure: Procedure.domainGetJobStats, flags: flagBits(JobStatsFlag, flags), decode };
    return this.#subject.ask('read the job of', ask, options);
  }
}

function decodeProgress(reader: XdrReader): JobProgress {
  const kind = jobKind(reader.int());
  const [elapsedMs = 0, remainingMs = 0, totalBytes = 0, processedBytes = 0, remainingBytes = 0] = Array.from(
    // The last six of the eleven tell memory and files apart, which only migrations and saves do.
    { length: 11 },
    () => reader.uhyperRounded(),
  );
  return { kind, elapsedMs, remainingMs, totalBytes, processedBytes, remainingBytes };
}

function jobKind(number: number): JobKind {
  return JOB_KINDS[number] ?? 'unknown';
}
