import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { calculateJwkThumbprint, compactVerify, importJWK } from 'jose'
import { afterAll, describe, expect, test } from 'vitest'
import { type Checkpoint, checkpointHash, GENESIS, readCheckpoint, signCheckpoint } from './checkpoint.ts'
import { checkpointKeys, readPublicKeys } from './checkpoint-keys.ts'

// The key of RFC 8032's second test vector.
const jwk = {
  kty: 'OKP',
  crv: 'Ed25519',
  d: 'TM0Imyj_ltqdtsNG7BFOD1uKMZ81q6Yk2oz27U-4pvs',
  x: 'PUAXw-hDiVqStwqnTRt-vJyYLM8uxJaMwM1V8Sr0Zgw',
}
const { signing, publicKeys } = checkpointKeys.parse(jwk)
const checkpoint: Checkpoint = {
  sequence: 7n,
  time: 1_700_000_000_000,
  previous: GENESIS,
  chains: [
    {
      ...{ topic: 'ledger.events', epoch: 0, partition: 3, offset: 9_007_199_254_740_993n },
      ...{ records: 9_007_199_254_740_994n, hash: 'a'.repeat(64) },
    },
  ],
}

test('a checkpoint is read as it was signed; numbers beyond 2^53 too', () => {
  const token = signCheckpoint(signing, checkpoint)
  expect(readCheckpoint(token, publicKeys)).toEqual({
    checkpoint: { ...checkpoint, kid: signing.kid, hash: checkpointHash(token) },
  })
})

test('its form never changes: stored checkpoints are verified for ever', () => {
  expect(GENESIS).toBe('03ae540765e5b27adc06025cc0c4913363c66f25efc4971e60ed7fed2c1c89a3')
  expect(checkpointHash(signCheckpoint(signing, checkpoint))).toBe(
    '7f752bee7671c501f6c23927b26233d06b4077ca796635bd8dc443cf98d6f11d',
  )
})

test('it is a JWS that any library verifies: EdDSA over header and payload, the key named by its thumbprint', async () => {
  const { d: _, ...half } = jwk
  const { payload, protectedHeader } = await compactVerify(
    signCheckpoint(signing, checkpoint),
    await importJWK(half, 'EdDSA'),
  )
  expect(protectedHeader).toEqual({
    ...{ alg: 'EdDSA', typ: 'pennywire-audit-checkpoint+1', kid: await calculateJwkThumbprint(half) },
  })
  expect(JSON.parse(Buffer.from(payload).toString())).toMatchObject({
    sequence: '7',
    time: '2023-11-14T22:13:20.000Z',
  })
})

describe('what cannot be trusted', () => {
  const token = signCheckpoint(signing, checkpoint)
  const [header, payload, signature] = token.split('.') as [string, string, string]
  const changed = Buffer.from(payload, 'base64url').toString().replace('"7"', '"8"')
  const { privateKey } = generateKeyPairSync('ed25519')
  const other = checkpointKeys.parse(privateKey.export({ format: 'jwk' }))

  test.each<[string, string, string]>([
    [
      'changed content',
      `${header}.${Buffer.from(changed).toString('base64url')}.${signature}`,
      'its signature is wrong',
    ],
    ['no signature', `${header}.${payload}.`, 'its signature is wrong'],
    ['another one’s signature', `${header}.${payload}.${'A'.repeat(86)}`, 'its signature is wrong'],
    [
      'another key',
      signCheckpoint(other.signing, checkpoint),
      `it is signed by the key ${other.signing.kid}`,
    ],
    [
      'another key under our name',
      signCheckpoint({ ...other.signing, kid: signing.kid }, checkpoint),
      'its signature is wrong',
    ],
    [
      'another algorithm',
      `${Buffer.from('{"alg":"none","typ":"pennywire-audit-checkpoint+1","kid":"x"}').toString('base64url')}.${payload}.`,
      'it is no checkpoint',
    ],
    ['no JWS', 'hello', 'it is no checkpoint'],
    ['a part too many', `${token}.x`, 'it is no checkpoint'],
  ])('%s', (_what, text, fault) => {
    const read = readCheckpoint(text, publicKeys)
    expect('fault' in read && read.fault).toContain(fault)
  })
})

describe('key files', () => {
  const folder = mkdtempSync(join(tmpdir(), 'pennywire-checkpoint-'))
  afterAll(() => rmSync(folder, { recursive: true }))
  const { d: _, ...half } = jwk
  const fileOf = (name: string, content: string) => {
    writeFileSync(join(folder, name), content)
    return join(folder, name)
  }
  const pem = (key: KeyObject) => key.export({ type: 'spki', format: 'pem' }).toString()

  test('a public key is a JWK, one of several, or PEM, and has one name in all', () => {
    const files = [
      fileOf('one.json', JSON.stringify(half)),
      fileOf('several.json', JSON.stringify({ keys: [{ ...half, kid: 'a name that is not believed' }] })),
      fileOf('public.pem', pem(createPublicKey({ key: half, format: 'jwk' }))),
    ]
    for (const file of files) expect([...readPublicKeys([file]).keys()]).toEqual([signing.kid])
  })

  test('a file without such a key is named, and its content is not', () => {
    const file = fileOf('rsa.json', '{"kty":"RSA","d":"secret"}')
    expect(() => readPublicKeys([file])).toThrow(`${file} holds no Ed25519 public key`)
    expect(() => readPublicKeys([file])).not.toThrow('secret')
  })

  test('the first key signs, and the public halves of earlier ones verify', () => {
    const { privateKey, publicKey } = generateKeyPairSync('ed25519')
    const keys = checkpointKeys.parse({ keys: [privateKey.export({ format: 'jwk' }), half] })
    expect(keys.publicKeys.size).toBe(2)
    const earlier = signCheckpoint(
      { kid: signing.kid, key: createPrivateKey({ key: jwk, format: 'jwk' }) },
      checkpoint,
    )
    expect(readCheckpoint(earlier, keys.publicKeys)).toHaveProperty('checkpoint')
    expect(checkpointKeys.safeParse(publicKey.export({ format: 'jwk' })).success).toBe(false)
  })
})
