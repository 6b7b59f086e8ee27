/** The disks of a VM, as its host tells, or where it is not here those of its replica. */
import { Card, CardBody, CardTitle } from '@patternfly/react-core';
import type { VmRow } from '#/api/types.ts';
import { useCall } from '#/api/use-call.ts';
import { bytes } from '#/lib/format.ts';
import { PlainTable } from '#/shared/plain-table.tsx';

export function DisksCard({ row, replicaId }: { row: VmRow; replicaId: string | null }) {
  const vm = useCall('GET /api/v1/vms/{id}', ['site'], {
    params: { id: row.vm_uuid },
    isEnabled: row.host_id !== null,
  });
  const replica = useCall('GET /api/v1/replicas/{id}', ['site'], {
    params: { id: replicaId ?? '' },
    isEnabled: replicaId !== null,
  });
  const rows =
    vm.data?.disks.map((disk) => [disk.key, bytes(disk.bytes), disk.format, disk.refusal ?? disk.path]) ??
    replica.data?.disks.map((disk) => [disk.key, bytes(disk.bytes), 'replica', '']) ??
    [];
  return (
    <Card isFullHeight>
      <CardTitle component="h2">Disks</CardTitle>
      <CardBody>
        <PlainTable columns={['Disk', 'Size', 'Format', 'Where']} rows={rows} />
        {vm.data !== undefined && (
          <p className="subtle">
            {vm.data.vcpu_count} vCPU, {bytes(vm.data.memory_bytes)} of memory, networks:{' '}
            {vm.data.networks.join(', ') || 'none'}
          </p>
        )}
      </CardBody>
    </Card>
  );
}
