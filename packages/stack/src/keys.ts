import { randomBytes } from 'node:crypto'
import { existsSync, linkSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  calculateJwkThumbprint,
  exportJWK,
  type GenerateKeyPairOptions,
  generateKeyPair,
  type JWK,
} from 'jose'

/** The folder of this data folder's secrets (mode 0700; every file in it 0600). */
export const keysFolder = (dataDir: string) => join(dataDir, 'keys')

/** Writes a secret if it is missing, readable only by its owner. */
export const writeOnce = (folder: string, name: string, text: string) => {
  const target = join(folder, name)
  if (existsSync(target)) return
  // Written beside it and linked into place: a crash leaves the whole file or none, and an existing key is never
  // replaced, because data may depend on it already.
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

const makeJwtKey = () => makeJwkPair('RS256', 'sig', { modulusLength: 2048 })

/** Longer than gateways take to reload the file, and other verifiers to fetch the published keys again. */
const LEAD_MS = 90_000
/** Longer than the lifetime of anything that a gateway signs (a step-up token: an hour at most). */
const OVERLAP_MS = 2 * 60 * 60 * 1_000

type JwtKey = JWK & { signsFrom?: string; until?: string }

/**
 * Writes a new signing key into the file of JWT_KEY_FILE, in front of the keys that are still needed: the key that
 * signs until then, and the public halves of earlier keys whose tokens may still be valid. The file is replaced
 * atomically, so that no gateway reads half of it.
 */
export const rotateJwtKey = async (
  file: string,
  how: { atOnce: boolean; dropOld: boolean },
): Promise<{
  kid: string
  signsFrom: string
  kept: Array<{ kid: string; until: string }>
  dropped: string[]
}> => {
  const content = JSON.parse(readFileSync(file, 'utf8')) as JwtKey | { keys: JwtKey[] }
  const before = 'keys' in content ? (content.keys as JwtKey[]) : [content]
  const now = Date.now()
  const signsAt = how.atOnce || how.dropOld ? now : now + LEAD_MS
  const startOf = ({ signsFrom }: JwtKey) => (signsFrom === undefined ? 0 : Date.parse(signsFrom))
  const signing = before
    .filter(key => key.d !== undefined && startOf(key) <= now)
    .reduce<JwtKey | undefined>(
      (best, key) => (best && startOf(best) >= startOf(key) ? best : key),
      undefined,
    )

  const kept = before
    .filter(({ until }) => !how.dropOld && (until === undefined || Date.parse(until) > now))
    .map(key => {
      const { kty, n, e, kid, alg, use } = key
      const until = key.until ?? new Date(signsAt + OVERLAP_MS).toISOString()
      // The current key signs until the new one does, and only the current key still needs its private half.
      const needed = key === signing && signsAt > now ? key : ({ kty, n, e, kid, alg, use } as JwtKey)
      return { ...needed, until }
    })
  const { privateJwk } = await makeJwtKey()
  const signsFrom = new Date(signsAt).toISOString()
  const draft = `${file}.${process.pid}`
  writeFileSync(draft, json({ keys: [{ ...privateJwk, signsFrom }, ...kept] }), { mode: 0o600 })
  renameSync(draft, file)
  return {
    kid: privateJwk.kid,
    signsFrom,
    kept: kept.map(({ kid, until }) => ({ kid: kid!, until })),
    dropped: before.map(({ kid }) => kid!).filter(kid => !kept.some(key => key.kid === kid)),
  }
}

const makeCheckpointKey = () => makeJwkPair('EdDSA', 'sig', { crv: 'Ed25519' })

/**
 * Writes a new signing key into the file of CHECKPOINT_KEY_FILE, in front of the public halves of all earlier ones: the
 * checkpoints that they signed are verified for ever. The public halves of all go into `publicFile`. Both are replaced
 * atomically, the public file first: a key never signs that no verifier knows.
 */
export const rotateCheckpointKey = async (
  file: string,
  publicFile: string,
): Promise<{ kid: string; earlier: string[] }> => {
  const content = JSON.parse(readFileSync(file, 'utf8')) as JWK | { keys: JWK[] }
  const earlier = ('keys' in content ? (content.keys as JWK[]) : [content]).map(({ d: _, ...half }) => half)
  const { privateJwk, publicJwk } = await makeCheckpointKey()
  for (const [target, keys, mode] of [
    [publicFile, [publicJwk, ...earlier], 0o644],
    [file, [privateJwk, ...earlier], 0o600],
  ] as const) {
    const draft = `${target}.${process.pid}`
    writeFileSync(draft, json({ keys }), { mode })
    renameSync(draft, target)
  }
  return { kid: privateJwk.kid, earlier: earlier.map(({ kid }) => kid!) }
}

/**
 * Creates the missing keys of the local stack and keeps the others. Anywhere else keys come from settings, and no
 * service starts without them.
 */
export const makeKeys = async (dataDir: string): Promise<void> => {
  const folder = keysFolder(dataDir)
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  // RS256: verified three times as fast as ES256, and tokens are verified far more often than signed.
  if (!existsSync(join(folder, 'jwt.json'))) {
    const { privateJwk } = await makeJwtKey()
    writeOnce(folder, 'jwt.json', json(privateJwk))
  }
  if (!existsSync(join(folder, 'notifier-private.json'))) {
    // The public half first: the private one marks the pair as complete.
    rmSync(join(folder, 'notifier-public.json'), { force: true })
    const { privateJwk, publicJwk } = await makeJwkPair('ECDH-ES', 'enc', { crv: 'P-256' })
    writeOnce(folder, 'notifier-public.json', json(publicJwk))
    writeOnce(folder, 'notifier-private.json', json(privateJwk))
  }
  if (!existsSync(join(folder, 'checkpoint-key.json'))) {
    rmSync(join(folder, 'checkpoint-public.json'), { force: true })
    const { privateJwk, publicJwk } = await makeCheckpointKey()
    writeOnce(folder, 'checkpoint-public.json', json({ keys: [publicJwk] }))
    writeOnce(folder, 'checkpoint-key.json', json({ keys: [privateJwk] }))
  }
  for (const purpose of [
    'pin-pepper',
    'second-factor',
    'person-kek',
    'address-hmac',
    'command-mac',
    'receipt',
  ]) {
    const key = randomBytes(32).toString('base64url')
    writeOnce(folder, `${purpose}.json`, json({ kid: keyId(purpose), key }))
  }
  writeOnce(folder, 'provider-secret.json', json({ secret: randomBytes(32).toString('base64url') }))
}
