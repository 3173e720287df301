import { randomBytes } from 'node:crypto'
import { existsSync, linkSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { calculateJwkThumbprint, exportJWK, type GenerateKeyPairOptions, generateKeyPair } from 'jose'

/** Folder of the secrets of this data folder (mode 0700; every file in it 0600). */
export const keysFolder = (dataDir: string) => join(dataDir, 'keys')

const writeOnce = (folder: string, name: string, text: string) => {
  const target = join(folder, name)
  if (existsSync(target)) return
  // Written beside it and linked into place: a crash leaves the whole file or none, and a key that is there
  // is never replaced, because data may depend on it already.
  const draft = `${target}.${process.pid}`
  writeFileSync(draft, text, { mode: 0o600 })
  linkSync(draft, target)
  rmSync(draft)
}

const json = (value: object) => `${JSON.stringify(value, null, 2)}\n`
const keyId = (purpose: string) => `${purpose}-${randomBytes(4).toString('hex')}`

const makeJwkPair = async (alg: string, use: 'sig' | 'enc', options: GenerateKeyPairOptions = {}) => {
  const pair = await generateKeyPair(alg, { extractable: true, ...options })
  const publicJwk = await exportJWK(pair.publicKey)
  const named = { kid: await calculateJwkThumbprint(publicJwk), alg, use }
  return {
    privateJwk: { ...(await exportJWK(pair.privateKey)), ...named },
    publicJwk: { ...publicJwk, ...named },
  }
}

/**
 * Makes the keys of the local stack that are not there yet and leaves the others alone. Anywhere else keys
 * come by settings, and nothing starts without them.
 */
export const makeKeys = async (dataDir: string): Promise<void> => {
  const folder = keysFolder(dataDir)
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  // RS256: verified three times as fast as ES256, and tokens are verified far more often than signed.
  if (!existsSync(join(folder, 'jwt.json'))) {
    const { privateJwk } = await makeJwkPair('RS256', 'sig', { modulusLength: 2048 })
    writeOnce(folder, 'jwt.json', json(privateJwk))
  }
  if (!existsSync(join(folder, 'notifier-private.json'))) {
    // The public half first: the private one marks the pair as complete.
    rmSync(join(folder, 'notifier-public.json'), { force: true })
    const { privateJwk, publicJwk } = await makeJwkPair('ECDH-ES', 'enc', { crv: 'P-256' })
    writeOnce(folder, 'notifier-public.json', json(publicJwk))
    writeOnce(folder, 'notifier-private.json', json(privateJwk))
  }
  for (const purpose of ['pin-pepper', 'second-factor', 'person-kek', 'address-hmac']) {
    const key = randomBytes(32).toString('base64url')
    writeOnce(folder, `${purpose}.json`, json({ kid: keyId(purpose), key }))
  }
  writeOnce(folder, 'provider-secret.json', json({ secret: randomBytes(32).toString('base64url') }))
}
