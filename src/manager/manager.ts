/**
 * The manager of a site, put together: one process with its database, its authority, its API, and the few loops that
 * keep what is recorded and what is so in line with each other.
 */
import { mkdir } from 'node:fs/promises';
import type { Server } from 'node:http';
import { dirname } from 'node:path';
import type { Server as HttpsServer } from 'node:https';
import type { FastifyInstance } from 'fastify';
import type { Clock } from '#/lib/clock.ts';
import { Failure } from '#/lib/failure.ts';
import { failureFields, type Log } from '#/lib/log.ts';
import type { Random } from '#/lib/random.ts';
import { OidcClient } from './access/oidc-client.ts';
import { Sessions } from './access/sessions.ts';
import { UserAdmin } from './access/user-admin.ts';
import { Users } from './access/users.ts';
import { Alarms } from './alarms/alarms.ts';
import { readNoticeTargets, type NoticeTarget } from './alarms/notice-targets.ts';
import { Notices } from './alarms/notices.ts';
import { siteFacts } from './alarms/site-facts.ts';
import { Admission } from './admission.ts';
import { Audit } from './audit.ts';
import { checkRestoreFinished } from './backup/restore.ts';
import { CertificateAuthority } from './certificate-authority.ts';
import { Bookmarks } from './bookmarks.ts';
import { Changes } from './changes.ts';
import { Claims } from './claims.ts';
import { Consoles } from './consoles/consoles.ts';
import type { Context } from './context.ts';
import { EventLog } from './event-log.ts';
import { Fences } from './fences.ts';
import { Health } from './health.ts';
import { HandoverSteps } from './handover-steps.ts';
import { Handovers } from './handovers.ts';
import { JobLease } from './job-lease.ts';
import { listenHttps, listenUnix, secureOptions } from './http/listeners.ts';
import { CALLBACK } from './http/oidc-routes.ts';
import { createApplication, type UnixSockets } from './http/server.ts';
import { Inventory } from './inventory.ts';
import { CLAIMS_TELL_EVERY_MS, NOTICES_LOOK_EVERY_MS, SYNC_EVERY_MS } from './limits.ts';
import type { ManagerConfig } from './manager-config.ts';
import { openManagerKeys, type OwnKeys } from './manager-keys.ts';
import { Orders } from './orders.ts';
import { Peers } from './peers.ts';
import { Groups } from './plans/groups.ts';
import { Mappings } from './plans/mappings.ts';
import { PlanImport } from './plans/plan-import.ts';
import { Plans } from './plans/plans.ts';
import { PlanReprotections } from './plan-reprotections.ts';
import { ProtectionChanges } from './protection-changes.ts';
import { Protections } from './protections.ts';
import { WrongTokens } from './rate-limit.ts';
import { Readiness } from './readiness/readiness.ts';
import { Documents } from './rebuild/documents.ts';
import { Rebuild } from './rebuild/rebuild.ts';
import { isRebuilding, noticeLoss } from './rebuild/rebuild-state.ts';
import { Recoveries } from './recoveries.ts';
import { RecoveryEngine } from './recovery-engine.ts';
import { Replicas } from './replicas.ts';
import { Reprotections } from './reprotections.ts';
import { Retired } from './retired.ts';
import { RpoWatch } from './rpo-watch.ts';
import { stepWork } from './runs/execute/executors.ts';
import { RunEngine } from './runs/run-engine.ts';
import { Runs } from './runs/runs.ts';
import { RunReports } from './run-reports/run-reports.ts';
import { TestSchedule } from './run-reports/test-schedule.ts';
import { Seeds } from './seeds.ts';
import { openSiteIdentity } from './site-identity.ts';
import { GuestTasks } from './guest-tasks.ts';
import { PeerSourceCopies } from './source-copies.ts';
import { SiteView } from './site-view.ts';
import { Status } from './status.ts';
import { openDatabase } from './store/database.ts';
import { readSetting, writeSetting } from './store/settings-store.ts';

/** Jobs and RPO are looked at this often, if no report or task brings news before. */
const LOOK_EVERY_MS = 500;
const CLOSE_AGAIN_MS = 100;
const KEYS_CHECK_EVERY_MS = 3_600_000;

export type ManagerParts = { clock: Clock; random: Random; log: Log };

export class Manager implements AsyncDisposable {
  readonly context: Context;
  readonly orders: Orders;
  readonly admission: Admission;
  readonly sessions: Sessions;
  readonly users: Users;
  readonly userAdmin: UserAdmin;
  readonly audit: Audit;
  readonly oidc: OidcClient | undefined;
  readonly peers: Peers;
  readonly rebuild: Rebuild;
  readonly claims: Claims;
  readonly fences: Fences;
  readonly handovers: Handovers;
  readonly sourceCopies: PeerSourceCopies;
  readonly guests: GuestTasks;
  readonly protections: Protections;
  readonly protectionChanges: ProtectionChanges;
  readonly replicas: Replicas;
  readonly bookmarks: Bookmarks;
  readonly seeds: Seeds;
  readonly reprotections: Reprotections;
  readonly planReprotections: PlanReprotections;
  readonly retired: Retired;
  readonly recoveries: Recoveries;
  readonly consoles: Consoles;
  readonly mappings: Mappings;
  readonly groups: Groups;
  readonly plans: Plans;
  readonly readiness: Readiness;
  readonly reports: RunReports;
  readonly planImport: PlanImport;
  readonly runs: Runs;
  readonly watch: RpoWatch;
  readonly status: Status;
  readonly alarms: Alarms;
  readonly health: Health;
  readonly view: SiteView;
  readonly #notices: Notices;
  readonly #jobLease: JobLease;
  readonly #engine: RecoveryEngine;
  readonly #documents: Documents;
  readonly schedule: TestSchedule;
  readonly #runEngine: RunEngine;
  readonly #stop = new AbortController();
  readonly #loops: Promise<void>[] = [];
  /** Whether each paired site answered the last comparison, by its id. */
  readonly #answered = new Map<string, boolean>();
  #keys: OwnKeys;
  #application: FastifyInstance | undefined;
  #https: HttpsServer | undefined;
  #unix: Server | undefined;

  private constructor(context: Context, keys: OwnKeys, targets: readonly NoticeTarget[]) {
    this.context = context;
    this.#keys = keys;
    this.orders = new Orders(context);
    const wrong = new WrongTokens(context.clock);
    this.admission = new Admission(context, this.orders, wrong);
    this.sessions = new Sessions(context);
    this.users = new Users(context, wrong);
    this.audit = new Audit(context);
    const { openidConnect } = context.config;
    this.oidc =
      openidConnect === null
        ? undefined
        : new OidcClient(context, openidConnect, {
            redirectUri: () => `${openidConnect.publicUrl ?? this.url}${CALLBACK}`,
            wrong,
          });
    this.userAdmin = new UserAdmin(context, this.users, this.sessions);
    this.peers = new Peers(context, this.admission, () => this.#keys);
    this.rebuild = new Rebuild(context, this.peers);
    this.#documents = new Documents(context, this.peers);
    this.claims = new Claims(context, this.peers);
    this.fences = new Fences(context, this.peers, this.claims);
    this.handovers = new Handovers(context, this.claims, this.fences);
    this.sourceCopies = new PeerSourceCopies(context, this.peers);
    this.guests = new GuestTasks(context);
    this.protections = new Protections(context, this.peers, this.claims);
    this.protectionChanges = new ProtectionChanges(context, this.peers);
    this.seeds = new Seeds(context);
    this.replicas = new Replicas(context, this.claims, this.seeds);
    this.bookmarks = new Bookmarks(context);
    this.reprotections = new Reprotections(context, this);
    this.planReprotections = new PlanReprotections(context, this);
    this.retired = new Retired(context);
    this.recoveries = new Recoveries(context, this.peers, this.replicas);
    this.consoles = new Consoles(context, this.audit, () => this.port);
    this.mappings = new Mappings(context, this.peers);
    this.groups = new Groups(context);
    this.plans = new Plans(context);
    this.readiness = new Readiness(context, this.plans, this.peers);
    this.planImport = new PlanImport(context, this.peers, this);
    const { clock, config, db, identity } = context;
    const work = stepWork({
      db,
      clock,
      recoveries: this.recoveries,
      sources: this.sourceCopies,
      guests: this.guests,
      commandsDirectory: config.planCommandsDirectory,
    });
    this.runs = new Runs(context, { plans: this.plans, peers: this.peers, work });
    this.reports = new RunReports(context, this.recoveries, this.runs);
    this.schedule = new TestSchedule(context, this.runs, this.reports.store);
    const holder = { managerId: identity.managerId, startedMs: clock.now() };
    this.#runEngine = new RunEngine(context, work, holder);
    this.watch = new RpoWatch(context);
    this.status = new Status(context, this.protections, this.watch);
    this.#notices = new Notices(context, targets);
    this.alarms = new Alarms(context, () => siteFacts(context, this), this.#notices);
    this.health = new Health(context, () => this.#keys.certificatePem);
    this.view = new SiteView(this);
    const { managerId } = context.identity;
    this.#jobLease = new JobLease({ db: context.db, clock: context.clock, managerId });
    this.#engine = new RecoveryEngine(context, this.peers, this.claims, {
      handover: new HandoverSteps(context, this.sourceCopies),
      lease: this.#jobLease,
    });
  }

  /** Opens everything and listens. Throws config_invalid, storage_io, storage_corrupt, already_exists. */
  static async start(config: ManagerConfig, parts: ManagerParts): Promise<Manager> {
    const context = await openContext(config, parts);
    try {
      const keys = await openManagerKeys(context);
      const manager = new Manager(context, keys, await readNoticeTargets(config.alarmTargetsFile));
      await manager.#listen();
      manager.#run();
      if (await manager.users.needsFirst()) {
        context.log.info('access.no_user', { hint: 'antipode admin first-link' });
      }
      return manager;
    } catch (error) {
      await context.db.destroy();
      throw error;
    }
  }

  /** The port of the HTTPS listener, which is another than the configured one when that is 0. */
  get port(): number {
    const address = this.#https?.address();
    return typeof address === 'object' && address !== null ? address.port : this.context.config.listen.port;
  }

  /** Where people and programs reach it. */
  get url(): string {
    const { advertisedHost: host } = this.context.config;
    return `https://${host.includes(':') ? `[${host}]` : host}:${this.port}`;
  }

  get stopping(): AbortSignal {
    return this.#stop.signal;
  }

  /** The OpenAPI document. */
  document(): unknown {
    return this.#application?.swagger();
  }

  async #listen(): Promise<void> {
    const { authority, config } = this.context;
    const unixSockets: UnixSockets = new WeakSet();
    this.#application = await createApplication(this, unixSockets);
    try {
      // The Unix socket first: it is what tells that another manager of this site runs already.
      this.#unix = await listenUnix(this.#application, config.socketPath, unixSockets);
      this.#https = await listenHttps(this.#application, {
        ...config.listen,
        keys: this.#keys,
        caPem: authority.caPem,
      });
    } catch (error) {
      await this.#close();
      throw error;
    }
    this.peers.listensOn(this.port);
  }

  #run(): void {
    this.#loop('look', LOOK_EVERY_MS, async () => {
      await this.#engine.advance();
      await this.seeds.carryOut();
      await this.watch.look();
      await this.readiness.look();
      if (await this.#jobLease.hold()) await this.alarms.look();
      await this.reports.look();
      await this.schedule.look();
    });
    this.#loop('runs', LOOK_EVERY_MS, () => this.#runEngine.advance());
    this.#loop('sync', SYNC_EVERY_MS, async () => {
      await this.replicas.carryOutDeletes();
      const peers = await this.peers.list();
      await Promise.all(peers.map((peer) => this.#reconcile(peer)));
      await this.#documents.tell();
    });
    this.#loop('notices', NOTICES_LOOK_EVERY_MS, async () => {
      if (await this.#jobLease.hold()) await this.#notices.look();
    });
    this.#loop('claims', CLAIMS_TELL_EVERY_MS, () => this.claims.tell());
    this.#loop('keys', KEYS_CHECK_EVERY_MS, async () => {
      await this.audit.tellHead();
      this.#keys = await openManagerKeys(this.context);
      this.#https?.setSecureContext(secureOptions(this.#keys, this.context.authority.caPem));
    });
  }

  async #reconcile(peer: Awaited<ReturnType<Peers['list']>>[number]): Promise<void> {
    const before = this.#answered.get(peer.site_id);
    try {
      await this.protections.reconcile(peer);
      await this.protectionChanges.tell(peer);
    } catch (error) {
      if (before !== false) {
        this.context.log.warning('peer.away', { site: peer.site_name, ...failureFields(error) });
      }
    }
    const isReachable = this.peers.contact(peer.site_id)?.isReachable;
    if (isReachable !== undefined) this.#answered.set(peer.site_id, isReachable);
    if (before === undefined || before === isReachable) return;
    await this.context.events.record(this.context.db, {
      kind: isReachable === true ? 'site.reachable' : 'site.unreachable',
      severity: isReachable === true ? 'info' : 'warning',
      subject: { kind: 'site', id: peer.site_id },
      message: `the manager of site ${peer.site_name} ${isReachable === true ? 'answers again' : 'does not answer'}`,
    });
  }

  /** Repeats `work` until the manager stops; what fails is logged and tried again at the next turn. */
  #loop(name: string, everyMs: number, work: () => Promise<void>): void {
    const signal = this.#stop.signal;
    const run = async (): Promise<void> => {
      while (!signal.aborted) {
        const topics = name === 'look' || name === 'runs' ? (['jobs', 'reports'] as const) : [];
        const news = this.context.changes.next(topics, everyMs, signal);
        try {
          // What an old or empty database says must reach nobody before it is rebuilt.
          if (name === 'keys' || !(await isRebuilding(this.context.db))) await work();
        } catch (error) {
          if (signal.aborted) return;
          this.context.log.error(`${name}.failed`, failureFields(error));
        }
        await news;
      }
    };
    this.#loops.push(run());
  }

  async #close(): Promise<void> {
    for (const server of [this.#https, this.#unix]) {
      if (server?.listening !== true) continue;
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      // A connection that was still in its handshake is among them only afterwards, and would be kept.
      const again = setInterval(() => server.closeAllConnections(), CLOSE_AGAIN_MS);
      await closed;
      clearInterval(again);
    }
    await this.#application?.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new Failure('cancelled', 'the manager stops'));
    await this.consoles.close();
    await this.#close();
    await this.#runEngine.stop();
    await Promise.all(this.#loops);
    await this.#jobLease.release().catch((error: unknown) => {
      // Another manager then waits until it has run out.
      this.context.log.warning('lease.kept', failureFields(error));
    });
    await this.context.db.destroy();
  }
}

async function openContext(config: ManagerConfig, parts: ManagerParts): Promise<Context> {
  const { clock, random, log } = parts;
  for (const directory of [config.dataDirectory, dirname(config.socketPath)]) {
    await mkdir(directory, { recursive: true, mode: 0o700 });
  }
  await checkRestoreFinished(config.dataDirectory);
  const identity = await openSiteIdentity(config.dataDirectory, random);
  const authority = await CertificateAuthority.open(config.dataDirectory, identity.siteId, clock);
  const db = await openDatabase(config.databaseUrl, log);
  try {
    await noticeLoss(db, config.dataDirectory, log);
    await checkSetting(db, 'site_id', identity.siteId, 'the database belongs to another site');
    await checkSetting(db, 'site_name', config.siteName, 'site_name is fixed at the first start');
    const changes = new Changes();
    const events = new EventLog(identity.managerId, { changes, clock, random });
    const inventory = await Inventory.load(db, clock, changes);
    return { config, identity, clock, random, log, db, changes, authority, events, inventory };
  } catch (error) {
    await db.destroy();
    throw error;
  }
}

async function checkSetting(db: Context['db'], name: string, value: string, message: string): Promise<void> {
  const known = await readSetting(db, name);
  if (known === undefined) await writeSetting(db, name, value);
  else if (known !== value) {
    throw new Failure('config_invalid', `${message}: it says ${known}, not ${value}`, {
      hint: 'Check data_directory, database_url and site_name.',
    });
  }
}
