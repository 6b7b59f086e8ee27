/** Takes a picture of the screen of a VM that a recovery brought up here. */
import { PICTURE_BYTES_MAX, type PictureTask } from '#/control/picture-task.ts';
import { Failure } from '#/lib/failure.ts';
import { decodePng, encodePng, halved, readPpm, type Picture } from '#/lib/png.ts';
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
    const shot = await domain.screenshot(0, { signal: timeout });
    let picture = pictureOf(shot.mime, shot.bytes);
    let png = encodePng(picture);
    while (png.length > PICTURE_BYTES_MAX) {
      picture = halved(picture);
      png = encodePng(picture);
    }
    return { png: png.toString('base64') };
  }
  throw new Failure('not_found', `take a picture: no VM of recovery ${id} is on this host`);
}

/** Throws tool_failed: it is no trouble of the connection, which would be tried again. */
function pictureOf(mime: string, bytes: Uint8Array): Picture {
  try {
    return mime === 'image/png' ? decodePng(bytes) : readPpm(bytes);
  } catch (cause) {
    throw new Failure('tool_failed', `read the picture of a screen, which is ${mime}`, { cause });
  }
}
