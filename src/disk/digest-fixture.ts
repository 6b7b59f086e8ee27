/** The secret of replicas in tests. */
export const DIGEST_KEY: string = '5e'.repeat(32);
