/** Runs a program of the system to its end, with bounded output; arguments go as a list, never through a shell. */
import { execFile } from 'node:child_process';
import { Failure } from '#/lib/failure.ts';

const OUTPUT_BYTES_MAX = 1024 * 1024;
const TOOL_TIMEOUT_MS = 120_000;
const STDERR_LENGTH_MAX = 1000;

/** Its standard output. Throws Failure tool_failed with what it said on standard error. */
export function runTool(program: string, args: readonly string[], signal?: AbortSignal): Promise<string> {
  const options = {
    encoding: 'utf8',
    maxBuffer: OUTPUT_BYTES_MAX,
    timeout: TOOL_TIMEOUT_MS,
    killSignal: 'SIGKILL',
    ...(signal === undefined ? {} : { signal }),
  } as const;
  return new Promise((resolve, reject) => {
    execFile(program, args, options, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else {
        const said = stderr.trim().slice(0, STDERR_LENGTH_MAX);
        const hint = 'code' in error && error.code === 'ENOENT' ? { hint: `Install ${program}.` } : {};
        reject(
          new Failure('tool_failed', `run ${program}: ${said || 'it failed'}`, { cause: error, ...hint }),
        );
      }
    });
  });
}
