/** Typed calls of libvirt's programs: arguments encoded, replies decoded to their last byte. */
import { Failure } from '#/lib/failure.ts';
import type { CallOptions, RpcCall, RpcConnection } from './connection.ts';
import { REMOTE_PROGRAM } from './procedures.ts';
import type { RpcStream } from './stream.ts';
import { XdrReader, XdrWriter } from './xdr.ts';

export type Request<T> = {
  /** What is being done, for errors: "start domain web". */
  what: string;
  procedure: number;
  /** REMOTE_PROGRAM when absent. */
  program?: number;
  encode?: (writer: XdrWriter) => unknown;
  decode: (reader: XdrReader) => T;
};

export class Remote {
  readonly rpc: RpcConnection;

  constructor(rpc: RpcConnection) {
    this.rpc = rpc;
  }

  async call<T>(request: Request<T>, options: CallOptions = {}): Promise<T> {
    const payload = await this.rpc.call(encodeCall(request), options);
    return decodeReply(request, payload);
  }

  async callWithStream<T>(
    request: Request<T>,
    options: CallOptions = {},
  ): Promise<{ value: T; stream: RpcStream }> {
    const { payload, stream } = await this.rpc.callWithStream(encodeCall(request), options);
    try {
      return { value: decodeReply(request, payload), stream };
    } catch (error) {
      await stream[Symbol.asyncDispose]();
      throw error;
    }
  }
}

/** A call about one thing, whose reference is its first argument and whose flags, if it has any, are its last. */
export type Ask<T> = {
  procedure: number;
  program?: number;
  encode?: (writer: XdrWriter) => unknown;
  flags?: number;
  decode: (reader: XdrReader) => T;
};

/** A thing of the daemon that calls are about: a domain, a network, a checkpoint. */
export class Subject {
  readonly remote: Remote;
  readonly #name: string;
  readonly #encodeRef: (writer: XdrWriter) => unknown;

  /** `name` completes a sentence that begins with what is done: "domain web". */
  constructor(remote: Remote, name: string, encodeRef: (writer: XdrWriter) => unknown) {
    this.remote = remote;
    this.#name = name;
    this.#encodeRef = encodeRef;
  }

  ask<T>(verb: string, ask: Ask<T>, options?: CallOptions): Promise<T> {
    return this.remote.call(this.request(verb, ask), options);
  }

  /** A call with nothing but flags, which returns nothing. */
  async act(
    verb: string,
    procedure: number,
    flags: number | undefined,
    options?: CallOptions,
  ): Promise<void> {
    await this.ask(
      verb,
      flags === undefined ? { procedure, decode: nothing } : { procedure, flags, decode: nothing },
      options,
    );
  }

  request<T>(verb: string, ask: Ask<T>): Request<T> {
    return {
      what: `${verb} ${this.#name}`,
      procedure: ask.procedure,
      program: ask.program ?? REMOTE_PROGRAM,
      encode: (writer) => {
        this.#encodeRef(writer);
        ask.encode?.(writer);
        if (ask.flags !== undefined) writer.uint(ask.flags);
      },
      decode: ask.decode,
    };
  }
}

/** Decodes a reply whole; what does not decode fails with `protocol_corrupt` and names the call. */
export function decodeReply<T>(request: Request<T>, payload: Uint8Array): T {
  try {
    const reader = new XdrReader(payload);
    const value = request.decode(reader);
    reader.end();
    return value;
  } catch (error) {
    throw new Failure('protocol_corrupt', `${request.what}: read the reply of libvirt`, { cause: error });
  }
}

export const nothing = (): undefined => undefined;
export const string = (reader: XdrReader): string => reader.string();

function encodeCall(request: Request<unknown>): RpcCall {
  const writer = new XdrWriter();
  request.encode?.(writer);
  const { what, procedure, program = REMOTE_PROGRAM } = request;
  return { what, procedure, program, args: writer.bytes() };
}
