// A signed checkpoint states the head of every chain at one moment. It is a JWS in its compact form (RFC 7515) with
// Ed25519 (RFC 8037), so that any JWS library verifies it, and the text itself is what is hashed, stored and published.
import { createHash, type KeyObject, sign, verify } from 'node:crypto'
import type { Chain } from '@pennywire/kafka/hash-chain.ts'
import { z } from 'zod'

/** The end of a chain: `records` from its first to `offset`, whose record has this hash. */
export type ChainHead = Chain & { offset: bigint; records: bigint; hash: string }

export type Checkpoint = {
  /** 1, 2, 3, … without a gap. */
  sequence: bigint
  /** Milliseconds since 1970, by the clock of the instance that signed it. */
  time: number
  /** The hash of the checkpoint before it, of the first one GENESIS. */
  previous: string
  chains: ChainHead[]
}

export type SigningKey = { kid: string; key: KeyObject }
export type PublicKeys = ReadonlyMap<string, KeyObject>

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex')

/** To what the first checkpoint is chained. */
export const GENESIS = sha256('pennywire:audit:checkpoints')
/** Media type of this form; another one gets another name. */
const TYPE = 'pennywire-audit-checkpoint+1'

/** The hash by which the next checkpoint is chained to this one: over its whole text, with the signature. */
export const checkpointHash = (token: string): string => sha256(token)

const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url')

/** Signs a checkpoint. Equal content and key give an equal text: Ed25519 draws no random number. */
export const signCheckpoint = ({ kid, key }: SigningKey, checkpoint: Checkpoint): string => {
  const header = { alg: 'EdDSA', typ: TYPE, kid }
  const payload = {
    sequence: String(checkpoint.sequence),
    time: new Date(checkpoint.time).toISOString(),
    previous: checkpoint.previous,
    chains: checkpoint.chains.map(({ topic, epoch, partition, offset, records, hash }) => ({
      ...{ topic, epoch, partition, offset: String(offset), records: String(records), hash },
    })),
  }
  const signed = `${encode(header)}.${encode(payload)}`
  return `${signed}.${sign(null, Buffer.from(signed), key).toString('base64url')}`
}

const natural = z
  .string()
  .regex(/^\d{1,19}$/)
  .transform(BigInt)
const sha256Hex = z.string().regex(/^[0-9a-f]{64}$/)
const headerSchema = z.object({ alg: z.literal('EdDSA'), typ: z.literal(TYPE), kid: z.string().min(1) })
const payloadSchema = z.object({
  sequence: natural,
  time: z.iso.datetime().transform(time => Date.parse(time)),
  previous: sha256Hex,
  chains: z.array(
    z.object({
      topic: z.string(),
      epoch: z.number().int(),
      partition: z.number().int(),
      offset: natural,
      records: natural,
      hash: sha256Hex,
    }),
  ),
})

export type ReadCheckpoint = Checkpoint & { kid: string; hash: string }

/**
 * Reads a checkpoint's text. Its signature is checked by the public keys, unless there are none to check by (`null`).
 * Returns why it cannot be trusted instead, in words that name the cause.
 */
export const readCheckpoint = (
  token: string,
  keys: PublicKeys | null,
): { checkpoint: ReadCheckpoint } | { fault: string; sequence?: bigint } => {
  const [header = '', payload = '', signature = '', ...more] = token.split('.')
  let kid: string
  let checkpoint: Checkpoint
  try {
    if (more.length > 0) throw new Error('too many parts')
    kid = headerSchema.parse(JSON.parse(Buffer.from(header, 'base64url').toString())).kid
    checkpoint = payloadSchema.parse(JSON.parse(Buffer.from(payload, 'base64url').toString()))
  } catch {
    return { fault: 'it is no checkpoint: its text cannot be read' }
  }
  const { sequence } = checkpoint
  if (keys) {
    const key = keys.get(kid)
    if (!key) return { sequence, fault: `it is signed by the key ${kid}, which is none of the public keys` }
    if (!verify(null, Buffer.from(`${header}.${payload}`), key, Buffer.from(signature, 'base64url')))
      return { sequence, fault: 'its signature is wrong: it was forged or changed' }
  }
  return { checkpoint: { ...checkpoint, kid, hash: checkpointHash(token) } }
}
