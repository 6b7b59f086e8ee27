/** The sites, and the hosts and replication servers of this one; how others join. */
import { Card, CardBody, CardTitle, Label, PageSection } from '@patternfly/react-core';
import { useState } from 'react';
import type { Host, ReplicationServer, Site } from '#/api/types.ts';
import { useCall } from '#/api/use-call.ts';
import { bytes, plural, span } from '#/lib/format.ts';
import { useNow } from '#/lib/now.ts';
import { PageHead } from '#/shell/page-head.tsx';
import { ActionButton } from '#/shared/action-button.tsx';
import { PlainTable } from '#/shared/plain-table.tsx';
import { canManage } from '#/shared/what-may-be-done.ts';
import { JoinDialog, type JoinKind } from './join-dialog.tsx';
import { PairDialog } from './pair-dialog.tsx';

export function SitePage() {
  const sites = useCall('GET /api/v1/sites', ['site', 'reports']);
  const hosts = useCall('GET /api/v1/hosts', ['site', 'reports']);
  const servers = useCall('GET /api/v1/replication-servers', ['site', 'reports']);
  const [joins, setJoins] = useState<JoinKind | 'pair'>();
  const whyNot = canManage('site.manage');
  return (
    <>
      <PageHead
        title="Sites and hosts"
        actions={
          <>
            <ActionButton name="Pair with a site…" whyNot={whyNot} onClick={() => setJoins('pair')} />
            <ActionButton
              name="Add a replication server…"
              whyNot={whyNot}
              onClick={() => setJoins('replication-server')}
            />
            <ActionButton
              name="Add a host…"
              variant="primary"
              whyNot={whyNot}
              onClick={() => setJoins('agent')}
            />
          </>
        }
      />
      <PageSection hasBodyWrapper={false} isFilled className="stack">
        <Card>
          <CardTitle component="h2">Sites</CardTitle>
          <CardBody>
            <SiteTable sites={sites.data?.items ?? []} />
          </CardBody>
        </Card>
        <Card>
          <CardTitle component="h2">Hosts of this site</CardTitle>
          <CardBody>
            <HostTable hosts={hosts.data?.items ?? []} />
          </CardBody>
        </Card>
        <Card>
          <CardTitle component="h2">Replication servers of this site</CardTitle>
          <CardBody>
            <ServerTable servers={servers.data?.items ?? []} />
          </CardBody>
        </Card>
        {joins === 'pair' && <PairDialog onClose={() => setJoins(undefined)} />}
        {(joins === 'agent' || joins === 'replication-server') && (
          <JoinDialog kind={joins} onClose={() => setJoins(undefined)} />
        )}
      </PageSection>
    </>
  );
}

function SiteTable({ sites }: { sites: readonly Site[] }) {
  return (
    <PlainTable
      columns={['Site', 'Address', 'State']}
      rows={sites.map((site) => [
        site.is_self ? `${site.name} (here)` : site.name,
        site.address,
        <span key="state">
          <Alive isAlive={site.is_reachable} yes="answers" no="does not answer" />{' '}
          <span className="subtle">{site.failure?.message}</span>
        </span>,
      ])}
    />
  );
}

function HostTable({ hosts }: { hosts: readonly Host[] }) {
  const nowMs = useNow();
  return (
    <PlainTable
      columns={['Host', 'State', 'libvirt', 'VMs', 'Memory', 'Space', 'Start hook', 'Certificate ends']}
      none="No host has joined yet."
      rows={hosts.map((host) => [
        host.name,
        <Alive key="alive" isAlive={host.is_alive} yes="reports" no={silence(host.report_ms, nowMs)} />,
        host.libvirt_failure === null ? (host.libvirt_version ?? '') : host.libvirt_failure.message,
        plural(host.vm_count, 'VM'),
        host.memory_bytes === null ? '' : `${bytes(host.memory_bytes)}, ${host.cpu_count} CPUs`,
        host.storage_free_bytes === null
          ? ''
          : `${bytes(host.storage_free_bytes)} free in ${host.storage_path}`,
        hookText(host),
        `in ${span(host.certificate_expires_ms - nowMs)}`,
      ])}
    />
  );
}

function hookText(host: Host): string {
  if (host.start_hook === null) return 'not known yet';
  return host.start_hook.is_working
    ? 'keeps yielded copies off'
    : `does not work: ${host.start_hook.failure?.message ?? ''}`;
}

function ServerTable({ servers }: { servers: readonly ReplicationServer[] }) {
  const nowMs = useNow();
  return (
    <PlainTable
      columns={['Server', 'State', 'Address', 'Replicas', 'Space', 'Certificate ends']}
      none="No replication server has joined yet: this site keeps no replicas."
      rows={servers.map((server) => [
        server.name,
        <Alive key="alive" isAlive={server.is_alive} yes="reports" no={silence(server.report_ms, nowMs)} />,
        server.endpoint ?? '',
        plural(server.replica_count, 'replica'),
        server.store_free_bytes === null
          ? ''
          : `${bytes(server.store_free_bytes)} free in ${server.store_path}`,
        `in ${span(server.certificate_expires_ms - nowMs)}`,
      ])}
    />
  );
}

function Alive({ isAlive, no, yes }: { isAlive: boolean | null; yes: string; no: string }) {
  if (isAlive === null) return <Label isCompact>not asked yet</Label>;
  return (
    <Label isCompact variant="outline" status={isAlive ? 'success' : 'danger'}>
      {isAlive ? yes : no}
    </Label>
  );
}

function silence(reportMs: number | null, nowMs: number): string {
  return reportMs === null ? 'has not reported yet' : `silent for ${span(nowMs - reportMs)}`;
}
