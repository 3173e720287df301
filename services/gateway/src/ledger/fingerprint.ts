import { createHash } from 'node:crypto'

/** JSON with the members of every object in one order, so that the same content gives the same text. */
export const canonicalJson = (value: unknown): string => {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`
  if (value !== null && typeof value === 'object') {
    const members = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))
    return `{${members.map(([name, member]) => `${JSON.stringify(name)}:${canonicalJson(member)}`).join(',')}}`
  }
  return JSON.stringify(value)
}

/**
 * The content of a request in 16 bytes of SHA-256: type, wallets as resolved, minor amount, currency and texts, but no
 * PIN. Two requests under one idempotency key are the same request exactly if their fingerprints are equal.
 */
export const fingerprintOf = (request: {
  type: string
  fromWalletId: string | null
  toWalletId: string | null
  amount: bigint
  currency: string
  note: string | null
  metadata: Record<string, unknown> | null
  method?: string
  expiresInSeconds?: number
}): Buffer =>
  createHash('sha256')
    .update(canonicalJson({ ...request, amount: request.amount.toString() }))
    .digest()
    .subarray(0, 16)

/** The content of a command that is not a transfer, in 16 bytes of SHA-256: its name and members, amounts as text. */
export const fingerprintOfCommand = (name: string, content: Record<string, string | null>): Buffer =>
  createHash('sha256').update(canonicalJson({ name, content })).digest().subarray(0, 16)
