/** What the definition of a VM asks of a host, and what a host can give, as libvirt tells both. */
import { Type, type Static } from 'typebox';

const closed = { additionalProperties: false };
const Word = Type.String({ minLength: 1, maxLength: 128 });
const nullable = <T extends Parameters<typeof Type.Union>[0][number]>(type: T) =>
  Type.Union([type, Type.Null()]);

export const Hardware = Type.Object(
  {
    arch: nullable(Word),
    machine: nullable(Word),
    /** `custom`, `host-model`, `host-passthrough`; null for libvirt's default. */
    cpu_mode: nullable(Word),
    /** Of a custom one that the host has to have in full. */
    cpu_model: nullable(Word),
    firmware: Type.Union([Type.Literal('bios'), Type.Literal('efi')]),
    is_secure_boot: Type.Boolean(),
    has_tpm: Type.Boolean(),
  },
  closed,
);
export type Hardware = Static<typeof Hardware>;

/** Of the host's own architecture and its preferred kind of virtual machine. */
export const HostCapabilities = Type.Object(
  {
    arch: Word,
    machines: Type.Array(Word, { maxItems: 1000 }),
    /** That this very processor can run. */
    cpu_models: Type.Array(Word, { maxItems: 1000 }),
    has_efi: Type.Boolean(),
    has_secure_boot: Type.Boolean(),
    /** An emulated TPM, with swtpm. */
    has_tpm: Type.Boolean(),
  },
  closed,
);
export type HostCapabilities = Static<typeof HostCapabilities>;
