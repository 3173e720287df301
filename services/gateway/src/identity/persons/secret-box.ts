import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'

const VERSION = 1
const NONCE_BYTES = 12
const TAG_BYTES = 16
const HEAD_BYTES = 1 + NONCE_BYTES

/** A secret key and its id, which is stored beside each value made with the key. */
export type SecretKey = { kid: string; key: Buffer }

/**
 * The current key and earlier ones. Values made with an earlier key stay readable, and are made anew under the current
 * key when their plaintext is at hand.
 */
export type KeyRing = { current: SecretKey; get: (kid: string) => Buffer | undefined; all: SecretKey[] }

/** The first key is the current one. */
export const createKeyRing = ([current, ...earlier]: [SecretKey, ...SecretKey[]]): KeyRing => {
  const all = [current, ...earlier]
  const keys = new Map(all.map(({ kid, key }) => [kid, key]))
  return { current, all, get: kid => keys.get(kid) }
}

/** Encrypts by AES-256-GCM under a 32-byte key, with a random nonce. Decryption requires the same `bound`. */
export const seal = (key: Buffer, plain: Buffer, bound: string): Buffer => {
  const nonce = randomBytes(NONCE_BYTES)
  const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(Buffer.from(bound))
  const body = Buffer.concat([cipher.update(plain), cipher.final()])
  return Buffer.concat([Buffer.from([VERSION]), nonce, body, cipher.getAuthTag()])
}

/** Decrypts a sealed value. Throws if key or `bound` differ, or a byte was changed. */
export const unseal = (key: Buffer, sealed: Buffer, bound: string): Buffer => {
  if (sealed[0] !== VERSION || sealed.length < HEAD_BYTES + TAG_BYTES)
    throw new Error('not sealed by this version')
  const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(1, HEAD_BYTES))
    .setAAD(Buffer.from(bound))
    .setAuthTag(sealed.subarray(-TAG_BYTES))
  return Buffer.concat([decipher.update(sealed.subarray(HEAD_BYTES, -TAG_BYTES)), decipher.final()])
}
