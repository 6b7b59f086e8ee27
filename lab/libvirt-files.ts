/**
 * The configuration of a site's own libvirt, written from nothing: the machine's would bring its VMs along.
 */
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

export interface LibvirtIdentity {
  /** libvirt refuses to migrate between daemons that say they are the same host. */
  readonly hostUuid: string;
  /** Second byte of the addresses of the network `default`. */
  readonly number: number;
}

/** Root without confinement: security drivers and cgroups of the machine belong to the machine. */
const QEMU_CONF = `security_driver = "none"
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
cgroup_controllers = []
namespaces = []
`;

/** `etc` is bound over /etc/libvirt. Files that are there stay as they are. */
export async function writeLibvirtFiles(etc: string, identity: LibvirtIdentity): Promise<void> {
  const networks = join(etc, 'qemu/networks');
  await mkdir(join(networks, 'autostart'), { recursive: true });
  await mkdir(join(etc, 'hooks'), { recursive: true });
  const libvirtd = [
    `host_uuid = "${identity.hostUuid}"`,
    'auth_unix_ro = "none"',
    'auth_unix_rw = "none"',
    'unix_sock_group = "root"',
    'unix_sock_rw_perms = "0700"',
    'log_outputs = "2:stderr"',
    '',
  ].join('\n');
  await writeOnce(join(etc, 'libvirtd.conf'), libvirtd);
  await writeOnce(join(etc, 'virtlogd.conf'), 'log_outputs = "2:stderr"\n');
  await writeOnce(join(etc, 'qemu.conf'), QEMU_CONF);
  await writeOnce(join(etc, 'libvirt.conf'), 'uri_default = "qemu:///system"\n');
  await writeOnce(join(networks, 'default.xml'), networkXml(identity.number));
  const autostart = join(networks, 'autostart/default.xml');
  if (!existsSync(autostart)) await symlink('/etc/libvirt/qemu/networks/default.xml', autostart);
}

/** A bridge that leads nowhere: VMs of the site see each other and DHCP. */
function networkXml(number: number): string {
  return `<network>
  <name>default</name>
  <bridge name='virbr0' stp='off' delay='0'/>
  <ip address='192.168.${number}.1' netmask='255.255.255.0'>
    <dhcp><range start='192.168.${number}.10' end='192.168.${number}.250'/></dhcp>
  </ip>
</network>
`;
}

async function writeOnce(path: string, text: string): Promise<void> {
  if (!existsSync(path)) await writeFile(path, text);
}
