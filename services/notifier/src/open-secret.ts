import {
  type CompactDecryptGetKey,
  CompactEncrypt,
  compactDecrypt,
  decodeProtectedHeader,
  errors,
  importJWK,
} from 'jose'
import { z } from 'zod'

const privateJwk = z.looseObject({
  kty: z.literal('EC'),
  crv: z.literal('P-256'),
  kid: z.string().min(1),
  x: z.string(),
  y: z.string(),
  d: z.string(),
})

/** The notifier's key, as a private JWK; or `{"keys": [...]}`, the current one first, while others are still encrypted to. */
export const privateJwks = z
  .union([
    privateJwk.transform(key => [key]),
    z.object({ keys: z.array(privateJwk).min(1) }).transform(({ keys }) => keys),
  ])
  .refine(keys => new Set(keys.map(({ kid }) => kid)).size === keys.length, 'two keys have one kid')

/** What a mail's secret holds; its form is the template's to check. */
export type OpenSecret = (jwe: string) => Promise<unknown>

/**
 * Opens secrets that were encrypted to one of these keys, which each names. They live in memory for as long as their mail
 * is written: they are never stored and never logged. Rejects where one was made for another key or is no JSON.
 */
export const createSecretOpener = async (jwks: z.output<typeof privateJwks>): Promise<OpenSecret> => {
  const keys = new Map<string | undefined, Awaited<ReturnType<typeof importJWK>>>()
  for (const jwk of jwks) keys.set(jwk.kid, await importJWK(jwk, 'ECDH-ES+A256KW'))
  const keyOf: CompactDecryptGetKey = ({ kid }) => {
    const key = keys.get(kid)
    if (!key) throw new errors.JWEDecryptionFailed(`it was made for the key ${kid}, which is not here`)
    return key
  }
  return async jwe => {
    const { plaintext } = await compactDecrypt(jwe, keyOf, {
      keyManagementAlgorithms: ['ECDH-ES+A256KW', 'ECDH-ES'],
      contentEncryptionAlgorithms: ['A256GCM'],
    })
    return JSON.parse(new TextDecoder().decode(plaintext))
  }
}

/** Encrypts under the current key, the first, what was encrypted under another one; undefined for what is under it already. */
export type Reseal = (jwe: string) => Promise<string | undefined>

/** Rejects, as the opener does, where a secret was made for a key that is not here. */
export const createResealer = async (
  jwks: z.output<typeof privateJwks>,
  openSecret: OpenSecret,
): Promise<Reseal> => {
  const { d: _, ...current } = jwks[0]!
  const recipient = await importJWK(current, 'ECDH-ES+A256KW')
  return async jwe => {
    if (decodeProtectedHeader(jwe).kid === current.kid) return undefined
    return new CompactEncrypt(Buffer.from(JSON.stringify(await openSecret(jwe))))
      .setProtectedHeader({ alg: 'ECDH-ES+A256KW', enc: 'A256GCM', kid: current.kid })
      .encrypt(recipient)
  }
}
