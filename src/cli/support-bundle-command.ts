/** support-bundle: what whoever helps needs to see, without secrets, in one archive. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { CONFIG_DIRECTORY } from '#/operate/configured.ts';
import { bundleBytes, makeBundle } from '#/operate/support-bundle.ts';
import { examples, managerOf, print, printJson, withManager, type CommonOptions } from './command.ts';
import { diagnose } from './doctor-command.ts';

type Options = CommonOptions & { out: string; configDirectory: string };

export function registerSupportBundleCommand(program: Command): void {
  const bundle = withManager(
    program
      .command('support-bundle')
      .description(
        'collect versions, configuration, findings of the doctor, what the manager tells, and logs into one archive; ' +
          'secrets are left out, and its manifest says what is in it and what is not',
      )
      .option('--out <file>', 'where', 'antipode-support.tar.gz')
      .option('--config-directory <path>', "of the programs' configuration", CONFIG_DIRECTORY),
  ).action(async (options: Options) => {
    const path = resolve(options.out);
    const examination = await diagnose(options.configDirectory);
    const manifest = await makeBundle(path, {
      configDirectory: options.configDirectory,
      examination,
      ask: async (name) => (await managerOf(options)).get(`/${name}`),
    });
    if (options.json === true) return printJson({ path, ...manifest });
    for (const entry of manifest.entries) {
      if ('left_out' in entry) print(`not there: ${entry.file}: ${entry.left_out}`);
    }
    print(`${path}: ${await bundleBytes(path)} bytes`);
    print('Look into it before you hand it on: names of VMs, hosts and people are in it.');
  });
  examples(bundle, ['antipode support-bundle --out /tmp/west.tar.gz', 'antipode support-bundle --site west']);
}
