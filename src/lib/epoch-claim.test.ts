import assert from 'node:assert/strict';
import { generateKeyPairSync, sign, X509Certificate } from 'node:crypto';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { CertificateAuthority } from '#/manager/certificate-authority.ts';
import { claimText, supersedes, verifyClaim, type EpochClaim, type UnsignedClaim } from './epoch-claim.ts';
import { hasCode } from './failure.ts';
import type { SiteAuthority } from './peer-identity.ts';
import { systemClock } from './system-clock.ts';

const UNSIGNED = {
  vm_uuid: '7a2c9a52-6d1e-4a70-9c53-2b8a5e6f1001',
  epoch: 2,
  site_id: 'site-east',
  issued_ms: 1_795_377_600_000,
};

let directory: string;
let claim: EpochClaim;
let authorities: SiteAuthority[];

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'antipode-claim-'));
  authorities = [];
  for (const siteId of ['site-west', 'site-east']) {
    await mkdir(join(directory, siteId));
    const authority = await CertificateAuthority.open(join(directory, siteId), siteId, systemClock);
    if (siteId === 'site-east') claim = await authority.sign(UNSIGNED);
    authorities.push({ siteId, certificate: new X509Certificate(authority.caPem) });
  }
});
after(() => rm(directory, { recursive: true, force: true }));

const isRefused = (error: unknown): boolean => hasCode(error, 'certificate_invalid');

test('what is signed is this text, byte for byte', () => {
  assert.equal(
    claimText(UNSIGNED),
    'antipode epoch claim 1\nvm 7a2c9a52-6d1e-4a70-9c53-2b8a5e6f1001\nepoch 2\nsite site-east\nissued 1795377600000\n',
  );
});

test('a claim is believed from the site it names, and from no other', () => {
  verifyClaim(claim, authorities);
  assert.equal(Buffer.from(claim.signature, 'base64url').length, 64);
  assert.throws(() => verifyClaim(claim, authorities.slice(0, 1)), isRefused);
  const changes: Partial<EpochClaim>[] = [
    { epoch: 3 },
    { site_id: 'site-west' },
    { issued_ms: UNSIGNED.issued_ms + 1 },
    { vm_uuid: '7a2c9a52-6d1e-4a70-9c53-2b8a5e6f1002' },
    { signature: '' },
    { signature: claim.signature.slice(4) },
  ];
  for (const change of changes) {
    assert.throws(() => verifyClaim({ ...claim, ...change }, authorities), isRefused, JSON.stringify(change));
  }
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const forged = sign('sha256', Buffer.from(claimText(UNSIGNED)), {
    key: privateKey,
    dsaEncoding: 'ieee-p1363',
  });
  const signature = forged.toString('base64url');
  assert.throws(() => verifyClaim({ ...claim, signature }, authorities), isRefused);
});

test('of any two claims exactly one supersedes the other, whoever compares them', () => {
  const claims: UnsignedClaim[] = [];
  for (const epoch of [1, 2]) {
    for (const issued_ms of [10, 20]) {
      for (const site_id of ['site-a', 'site-b']) claims.push({ ...UNSIGNED, epoch, issued_ms, site_id });
    }
  }
  for (const [i, a] of claims.entries()) {
    assert(supersedes(a, undefined));
    for (const [j, b] of claims.entries()) assert.equal(supersedes(a, b), i > j, `${i} ${j}`);
  }
});
