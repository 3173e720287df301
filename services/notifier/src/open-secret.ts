import { compactDecrypt, importJWK } from 'jose'
import { z } from 'zod'

/** The notifier's key, as a private JWK. */
export const privateJwk = z.looseObject({
  kty: z.literal('EC'),
  crv: z.literal('P-256'),
  kid: z.string().min(1),
  x: z.string(),
  y: z.string(),
  d: z.string(),
})

/** What a mail's secret holds; its form is the template's to check. */
export type OpenSecret = (jwe: string) => Promise<unknown>

/**
 * Opens secrets that were encrypted to this key. They live in memory for as long as their mail is written: they are
 * never stored and never logged. Rejects where one was made for another key or is no JSON.
 */
export const createSecretOpener = async (jwk: z.output<typeof privateJwk>): Promise<OpenSecret> => {
  const key = await importJWK(jwk, 'ECDH-ES+A256KW')
  return async jwe => {
    const { plaintext } = await compactDecrypt(jwe, key, {
      keyManagementAlgorithms: ['ECDH-ES+A256KW', 'ECDH-ES'],
      contentEncryptionAlgorithms: ['A256GCM'],
    })
    return JSON.parse(new TextDecoder().decode(plaintext))
  }
}
