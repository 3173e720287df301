import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { systemClock } from '@pennywire/runtime/clock.ts'
import { Webhook } from 'standardwebhooks'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { retryAfterMs } from './channels/webhook.ts'
import { createPostWebhook, isPublicAddress } from './post-webhook.ts'
import { signedHeaders } from './sign-webhook.ts'

describe('an address of the internet may be posted to', () => {
  test.each(['93.184.216.34', '8.8.8.8', '2606:4700::1111', '::ffff:8.8.8.8', '64:ff9b::808:808'])(
    '%s',
    address => {
      expect(isPublicAddress(address)).toBe(true)
    },
  )
})

describe('any other may not', () => {
  test.each([
    ...['127.0.0.1', '127.8.8.8', '0.0.0.0', '10.1.2.3', '172.16.0.1', '172.31.255.255', '192.168.1.1'],
    ...['169.254.169.254', '100.64.0.1', '192.0.0.1', '192.0.2.1', '198.18.0.1', '203.0.113.9', '224.0.0.1'],
    ...[
      '240.0.0.1',
      '255.255.255.255',
      '::',
      '::1',
      'fe80::1',
      'fc00::1',
      'fd12::1',
      'ff02::1',
      '2001:db8::1',
    ],
    ...[
      '::ffff:127.0.0.1',
      '::ffff:10.0.0.1',
      '::ffff:169.254.169.254',
      '64:ff9b:1::808:808',
      '64:ff9b::7f00:1',
      '64:ff9b::a00:1',
    ],
    ...['2002:7f00:1::', '2001:0:53aa:64c:0:0:80ff:fffe', '', 'localhost', '0x7f.1'],
  ])('%s', address => {
    expect(isPublicAddress(address)).toBe(false)
  })
})

describe('the guard', () => {
  let server: Server
  let port: number
  let reached = 0
  beforeAll(async () => {
    server = createServer((_request, response) => {
      reached++
      response.writeHead(204).end()
    })
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    port = (server.address() as AddressInfo).port
  })
  afterAll(() => server.close())
  const { post, close } = createPostWebhook({ allowPrivate: false, clock: systemClock })
  afterAll(close)

  test.each([
    ['a name that leads to this machine', () => `https://localhost:${port}/`, 'ADDRESS_NOT_ALLOWED'],
    ['an address of this machine', () => `https://127.0.0.1:${port}/`, 'ADDRESS_NOT_ALLOWED'],
    ['the same as one number', () => `https://2130706433:${port}/`, 'ADDRESS_NOT_ALLOWED'],
    ['the same in hexadecimal', () => `https://0x7f000001:${port}/`, 'ADDRESS_NOT_ALLOWED'],
    ['the same in octal', () => `https://0177.0.0.1:${port}/`, 'ADDRESS_NOT_ALLOWED'],
    ['the same within IPv6', () => `https://[::ffff:127.0.0.1]:${port}/`, 'ADDRESS_NOT_ALLOWED'],
    ['the loopback of IPv6', () => `https://[::1]:${port}/`, 'ADDRESS_NOT_ALLOWED'],
    ['the metadata of a cloud', () => 'https://169.254.169.254/latest/meta-data', 'ADDRESS_NOT_ALLOWED'],
    ['plain text', () => `http://127.0.0.1:${port}/`, 'HTTPS_REQUIRED'],
  ])('refuses %s', async (_what, url, code) => {
    await expect(post(url(), {}, '{}')).rejects.toMatchObject({ code })
    expect(reached).toBe(0)
  })
})

test.each([
  [undefined, 0],
  ['120', 120_000],
  ['999999999', 3_600_000],
  ['Thu, 01 Jan 2026 00:01:00 GMT', 60_000],
  ['Thu, 01 Jan 2025 00:01:00 GMT', 0],
  ['soon', 0],
  ['-5', 0],
])('Retry-After %s', (header, ms) => {
  expect(retryAfterMs(header, Date.UTC(2026, 0, 1))).toBe(ms)
})

test('signatures are those of the public library, one by each secret', () => {
  const secrets = [32, 24].map(bytes => `whsec_${Buffer.alloc(bytes, bytes).toString('base64')}`)
  const at = new Date(1_700_000_000_000)
  const headers = signedHeaders(secrets, { id: 'msg_1', atSeconds: at.getTime() / 1_000, body: '{"ü":1}' })
  expect(headers['webhook-signature']).toBe(
    secrets.map(secret => new Webhook(secret).sign('msg_1', at, '{"ü":1}')).join(' '),
  )
})
