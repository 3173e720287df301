import { CompactEncrypt, exportJWK, generateKeyPair } from 'jose'
import { expect, test } from 'vitest'
import { createSecretOpener, privateJwks } from './open-secret.ts'

const alg = 'ECDH-ES+A256KW'

const makeKey = async (kid: string) => {
  const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true, crv: 'P-256' })
  const seal = (secret: object) =>
    new CompactEncrypt(Buffer.from(JSON.stringify(secret)))
      .setProtectedHeader({ alg, enc: 'A256GCM', kid })
      .encrypt(publicKey)
  return { jwk: { ...(await exportJWK(privateKey)), kid }, seal }
}

test('while the key is being changed, secrets for either open; for any other none does', async () => {
  const [old, next, stranger] = [await makeKey('old'), await makeKey('next'), await makeKey('stranger')]
  const one = await createSecretOpener(privateJwks.parse(old.jwk))
  const both = await createSecretOpener(privateJwks.parse({ keys: [next.jwk, old.jwk] }))
  const last = await createSecretOpener(privateJwks.parse({ keys: [next.jwk] }))

  for (const open of [one, both]) expect(await open(await old.seal({ token: 'a' }))).toEqual({ token: 'a' })
  for (const open of [both, last]) expect(await open(await next.seal({ token: 'b' }))).toEqual({ token: 'b' })
  await expect(one(await next.seal({ token: 'b' }))).rejects.toThrow('next')
  await expect(last(await old.seal({ token: 'a' }))).rejects.toThrow('old')
  await expect(both(await stranger.seal({ token: 'c' }))).rejects.toThrow('stranger')
})

test('two keys of one name are no setting', async () => {
  const { jwk } = await makeKey('same')
  expect(privateJwks.safeParse({ keys: [jwk, jwk] }).success).toBe(false)
})
