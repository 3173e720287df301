import { type CompactDecryptGetKey, compactDecrypt, errors, importJWK } from 'jose'
import { z } from 'zod'

const privateJwk = z.looseObject({
  kty: z.literal('EC'),
  crv: z.literal('P-256'),
  kid: z.string().min(1),
  x: z.string(),
  y: z.string(),
  d: z.string(),
})

/** The notifier's key, as a private JWK; or `{"keys": [...]}` while others are still encrypted to. */
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
