/** Recoveries: what is asked, and how the job stands. */
import { Type, type Static } from 'typebox';
import { closed, Id, Milliseconds, Name, nullable, Problem, Progress, Text } from './common.ts';

/** Networks that the VMs of several tests share, and that reach nothing else. */
export const TestNetwork = Type.Object(
  {
    /** Tests that name the same tag share. */
    tag: Id,
    /** `one`: all interfaces are on one network. `each`: every network of this site has an isolated counterpart. */
    networks: Type.Union([Type.Literal('one'), Type.Literal('each')]),
    /** Joins counterparts of `each`: gateways with prefix length, by the networks of this site. */
    router: Type.Optional(
      Type.Record(Name, Type.String({ maxLength: 43, pattern: '^[0-9A-Fa-f:.]+/\\d{1,3}$' })),
    ),
  },
  closed,
);
export type TestNetwork = Static<typeof TestNetwork>;

/**
 * recovery: for production, from what is here. test: beside the original, isolated. migration: for production, from the
 * last state of a VM that is shut down at the protected site first.
 */
const Purpose = Type.Union([Type.Literal('recovery'), Type.Literal('test'), Type.Literal('migration')]);

export const RecoveryRequest = Type.Object(
  {
    /** VM's name or UUID, or the replica's id. */
    vm: Name,
    /** A point's sequence; absent means the newest. */
    point: Type.Optional(Type.Integer({ minimum: 1 })),
    purpose: Type.Optional(Purpose),
    /** Name of the VM here; its own by default, with `-test` appended in a test. */
    name: Type.Optional(Name),
    host_id: Type.Optional(nullable(Id)),
    /** Networks of the protected site to networks of this one. */
    networks: Type.Optional(Type.Record(Name, Name)),
    /** Of a test that is to meet others; without it the VM is alone on a network of its own. */
    test_network: Type.Optional(nullable(TestNetwork)),
    /** Text on the serial console that counts as a sign of life. */
    serial_text: Type.Optional(nullable(Text)),
    sign_of_life_timeout_ms: Type.Optional(Type.Integer({ minimum: 1, maximum: 86_400_000 })),
    /** Once it is up for production: protect it to the site that it came from, in deltas against its old copy there. */
    reprotect: Type.Optional(Type.Boolean()),
    /** Recover although the VM still runs at the protected site. */
    force: Type.Optional(Type.Boolean()),
    /** Of a migration: how the VM ends at the protected site, and how long its guest may take. */
    shut_down: Type.Optional(Type.Union([Type.Literal('guest'), Type.Literal('power_off')])),
    shut_down_timeout_ms: Type.Optional(Type.Integer({ minimum: 1, maximum: 7 * 86_400_000 })),
  },
  closed,
);
export type RecoveryRequest = Static<typeof RecoveryRequest>;

export const JobState = Type.Union([
  Type.Literal('running'),
  /** The VM of a test is up and waits for its cleanup. */
  Type.Literal('ready'),
  Type.Literal('cleaning'),
  Type.Literal('done'),
  /** Ended by a failure; what it made is still there until it is cleaned up. */
  Type.Literal('failed'),
  /** Everything it made is gone. */
  Type.Literal('cleaned'),
]);
export type JobState = Static<typeof JobState>;

export const RecoveryView = Type.Object(
  {
    id: Id,
    replica_id: Id,
    vm_name: Name,
    /** Name of the VM that is brought up. */
    name: Name,
    purpose: Purpose,
    point: nullable(Type.Integer()),
    /** Moment of the point that was opened. */
    moment_ms: nullable(Milliseconds),
    host_id: Id,
    epoch: Type.Integer(),
    state: JobState,
    steps: Type.Array(
      Type.Object(
        {
          name: Type.String(),
          state: Type.String(),
          started_ms: Milliseconds,
          ended_ms: nullable(Milliseconds),
          failure: nullable(Problem),
          /** What the program that carries it out has done so far. */
          details: Type.Array(
            Type.Object(
              {
                name: Text,
                started_ms: Milliseconds,
                ended_ms: nullable(Milliseconds),
                note: nullable(Text),
              },
              closed,
            ),
          ),
          progress: nullable(Progress),
        },
        closed,
      ),
    ),
    /** What the host's agent found: times of the first instruction and sign of life, what the guest said, notes. */
    result: nullable(Type.Record(Type.String(), Type.Unknown())),
    failure: nullable(Problem),
    created_ms: Milliseconds,
    updated_ms: Milliseconds,
  },
  closed,
);
export type RecoveryView = Static<typeof RecoveryView>;
