/**
 * An error that libvirt's daemon reported, with its numbers, as a Failure that callers can tell apart.
 *
 * Source of the numbers: libvirt 9.0, `virterror.h`; the layout is `virNetMessageError` of `virnetprotocol.x`.
 */
import { Failure } from '#/lib/failure.ts';
import { decodeDomainRef, decodeNetworkRef } from './remote-types.ts';
import { XdrReader } from './xdr.ts';

/** libvirt's error codes that callers act on. */
export const LibvirtCode = {
  internalError: 1,
  noSupport: 3,
  invalidArgument: 8,
  operationFailed: 9,
  xmlError: 27,
  domainExists: 28,
  operationDenied: 29,
  systemError: 38,
  rpc: 39,
  noDomain: 42,
  noNetwork: 43,
  authFailed: 45,
  operationInvalid: 55,
  configUnsupported: 67,
  operationTimeout: 68,
  hookScriptFailed: 70,
  argumentUnsupported: 74,
  operationAborted: 78,
  noDomainMetadata: 80,
  blockCopyActive: 83,
  operationUnsupported: 84,
  agentUnresponsive: 86,
  resourceBusy: 87,
  accessDenied: 88,
  cpuIncompatible: 91,
  authUnavailable: 94,
  agentUnsynced: 97,
  deviceMissing: 99,
  invalidCheckpoint: 102,
  noCheckpoint: 103,
  noBackup: 104,
  checkpointInconsistent: 109,
} as const;

/** What the daemon said. `code` is one of LibvirtCode or another of libvirt's; `domain` is the part that raised it. */
export type LibvirtErrorDetail = {
  code: number;
  domain: number;
  level: number;
  message: string;
  int1: number;
  int2: number;
};

/** A Failure `libvirt_error` with what the daemon said in `detail`. */
export class LibvirtError extends Failure {
  readonly detail: LibvirtErrorDetail;

  constructor(operation: string, detail: LibvirtErrorDetail) {
    super('libvirt_error', `${operation}: ${detail.message} (libvirt error ${detail.code})`);
    this.detail = detail;
  }
}

/** The LibvirtError in a chain of causes, if there is one. */
export function libvirtErrorIn(error: unknown): LibvirtError | undefined {
  for (let e: unknown = error, depth = 0; e !== undefined && depth < 16; depth++) {
    if (e instanceof LibvirtError) return e;
    e = e instanceof Error ? e.cause : undefined;
  }
  return undefined;
}

/** True when `error` is, or wraps, a libvirt error with one of these codes. */
export function hasLibvirtCode(error: unknown, ...codes: number[]): boolean {
  const found = libvirtErrorIn(error);
  return found !== undefined && codes.includes(found.detail.code);
}

/** Reads the payload of a packet with status error. Throws `protocol_corrupt`. */
export function decodeError(payload: Uint8Array): LibvirtErrorDetail {
  const reader = new XdrReader(payload);
  const code = reader.int();
  const domain = reader.int();
  const message = reader.optional((r) => r.lossyString()) ?? 'no reason given';
  const level = reader.int();
  reader.optional(decodeDomainRef);
  for (let i = 0; i < 3; i++) reader.optional((r) => r.lossyString());
  const int1 = reader.int();
  const int2 = reader.int();
  reader.optional(decodeNetworkRef);
  reader.end();
  return { code, domain, level, message, int1, int2 };
}
