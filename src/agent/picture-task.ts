/** Takes a picture of the screen of a VM that a recovery brought up here. */
import { PICTURE_BYTES_MAX, type PictureTask } from '#/control/picture-task.ts';
import { Failure } from '#/lib/failure.ts';
import { encodePng, halved, readPpm } from '#/lib/png.ts';
import type { Libvirt } from '#/libvirt/libvirt.ts';
import { readMark } from './definitions.ts';

/** QEMU draws it in no time; a guest that is stuck must not hold the task. */
const TIMEOUT_MS = 10_000;

export async function takePicture(
  task: PictureTask,
  libvirt: Libvirt,
  signal: AbortSignal,
): Promise<{ png: string }> {
  const { recover_task_id: id } = task;
  for (const domain of await libvirt.listDomains()) {
    if (readMark(await domain.getXml())?.taskId !== id) continue;
    const timeout = AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]);
    const { bytes } = await domain.screenshot(0, { signal: timeout });
    let picture = readPpm(bytes);
    let png = encodePng(picture);
    while (png.length > PICTURE_BYTES_MAX) {
      picture = halved(picture);
      png = encodePng(picture);
    }
    return { png: png.toString('base64') };
  }
  throw new Failure('not_found', `take a picture: no VM of recovery ${id} is on this host`);
}
