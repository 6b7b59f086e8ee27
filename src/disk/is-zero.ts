/** Whether bytes are all zero: the test that thin disks live by, made to cost little on data that is not. */

const PROBE = new Uint8Array(64 * 1024);

/** True when every byte is zero. Compares by memcmp, which leaves data at its first byte that differs. */
export function isZero(bytes: Uint8Array): boolean {
  if (bytes.length > 0 && (bytes[0] !== 0 || bytes[bytes.length - 1] !== 0)) return false;
  for (let at = 0; at < bytes.length; at += PROBE.length) {
    const length = Math.min(PROBE.length, bytes.length - at);
    if (Buffer.compare(bytes.subarray(at, at + length), PROBE.subarray(0, length)) !== 0) return false;
  }
  return true;
}
