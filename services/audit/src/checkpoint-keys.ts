import { createHash, createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { z } from 'zod'
import type { PublicKeys, SigningKey } from './checkpoint.ts'

const ed25519 = z.looseObject({
  kty: z.literal('OKP'),
  crv: z.literal('Ed25519'),
  x: z.base64url(),
  d: z.base64url().optional(),
})
const keyRing = z.union([
  ed25519.transform(key => [key]),
  z.object({ keys: z.array(ed25519).min(1) }).transform(({ keys }) => keys),
])

/** A key's name is its thumbprint (RFC 7638): a file cannot give a key the name of another one. */
const thumbprintOf = ({ x }: { x: string }): string =>
  createHash('sha256')
    .update(JSON.stringify({ crv: 'Ed25519', kty: 'OKP', x }))
    .digest('base64url')

const publicKeyOf = ({ x }: { x: string }): [kid: string, key: KeyObject] => [
  thumbprintOf({ x }),
  createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' }),
]

/** The content of CHECKPOINT_KEY_FILE: the first key signs, all verify; the earlier ones need no private half. */
export const checkpointKeys = keyRing.transform(
  (keys, context): { signing: SigningKey; publicKeys: PublicKeys } => {
    const { x, d } = keys[0]!
    if (d === undefined) {
      context.issues.push({ code: 'custom', input: '', message: 'the first key has no private half (d)' })
      return z.NEVER
    }
    const key = createPrivateKey({ key: { kty: 'OKP', crv: 'Ed25519', x, d }, format: 'jwk' })
    return { signing: { kid: thumbprintOf({ x }), key }, publicKeys: new Map(keys.map(publicKeyOf)) }
  },
)
export type CheckpointKeys = z.output<typeof checkpointKeys>

/** Public keys from files: a JWK, several (`{"keys": [...]}`), or PEM. Throws where one is unusable. */
export const readPublicKeys = (files: readonly string[]): PublicKeys => {
  const keys = new Map<string, KeyObject>()
  for (const file of files) {
    const text = readFileSync(file, 'utf8')
    try {
      const found = text.trimStart().startsWith('-----BEGIN')
        ? [ed25519.parse(createPublicKey(text).export({ format: 'jwk' }))]
        : keyRing.parse(JSON.parse(text))
      for (const [kid, key] of found.map(publicKeyOf)) keys.set(kid, key)
    } catch {
      // The reason is left out: the file may be a private key.
      throw new Error(`${file} holds no Ed25519 public key (JWK, {"keys": [...]} or PEM)`)
    }
  }
  return keys
}
