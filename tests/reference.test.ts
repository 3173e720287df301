import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, expect, inject, test } from 'vitest'
import { z } from 'zod'

// biome-ignore lint/suspicious/noExplicitAny: a JSON document
type Json = any
type Operation = { name: string; path: string; method: string; of: Json }

let document: Json
let operations: Operation[]

beforeAll(async () => {
  document = await (await fetch(`${inject('system').gatewayUrl}/openapi.json`)).json()
  operations = Object.entries<Json>(document.paths).flatMap(([path, methods]) =>
    Object.entries<Json>(methods).map(([method, of]) => ({ name: `${method} ${path}`, path, method, of })),
  )
})

/** Names of the operations that match the predicate; tests expect none. */
const those = (holds: (operation: Operation) => boolean) => operations.filter(holds).map(({ name }) => name)

test('every operation has a summary, a tag and an answer for success', () => {
  expect(operations.length).toBeGreaterThan(45)
  expect(those(({ of }) => !(of.summary?.length >= 8) || of.tags?.length !== 1)).toEqual([])
  expect(those(({ of }) => !Object.keys(of.responses).some(status => /^[23]/.test(status)))).toEqual([])
  expect(new Set(operations.map(({ of }) => of.summary)).size).toBe(operations.length)
})

test('every operation is for signed-in users, or one of the few that are not', () => {
  expect(those(({ of }) => of.security === undefined).sort()).toEqual([
    'get /.well-known/jwks.json',
    'get /v1/auth/oidc',
    'get /v1/auth/oidc/{provider}',
    'get /v1/auth/oidc/{provider}/callback',
    'get /v1/auth/reset-password',
    'get /v1/auth/verify-email',
    'get /v1/receipts/verify',
    'post /v1/auth/2fa/verify',
    'post /v1/auth/external',
    'post /v1/auth/forgot-password',
    'post /v1/auth/login',
    'post /v1/auth/refresh',
    'post /v1/auth/resend-verification',
    'post /v1/auth/reset-password',
    'post /v1/auth/signup',
    'post /v1/auth/verify-email',
    'post /v1/mail/callbacks',
    'post /v1/provider/callbacks',
  ])
  expect(those(({ of }) => of.security !== undefined && of.responses[401] === undefined)).toEqual([])
  expect(those(({ of, path }) => path.includes('/admin/') && of.responses[403] === undefined)).toEqual([])
})

/**
 * The proof that a route for signed-in users requires beyond the access token. A token is stolen in a moment and valid
 * for minutes: an action that lasts longer, or moves money, needs the person.
 */
const PROOFS: Record<string, 'password' | 'step-up' | 'pin' | 'code' | { none: string }> = {
  'post /v1/pin': { none: 'a sign-in of the last minutes, or the password: see pin.integration.test.ts' },
  'post /v1/pin/verify': 'pin',
  'post /v1/pin/change': 'pin',
  'post /v1/pin/reset-request': { none: 'the code goes to the mailbox of the owner' },
  'post /v1/pin/reset': 'code',
  'post /v1/auth/change-password': 'password',
  'post /v1/auth/2fa/enable': 'password',
  'post /v1/auth/2fa/confirm': 'code',
  'post /v1/auth/2fa/step-up': 'code',
  'post /v1/auth/2fa/disable': 'password',
  'post /v1/auth/2fa/recovery-codes': 'password',
  'post /v1/users/me/external-identities': 'password',
  'post /v1/users/me/external-identities/oidc': 'password',
  'post /v1/users/me/deactivate': 'password',
  'post /v1/users/me/deletion': 'password',
  'delete /v1/users/me/deletion': { none: 'everything stays as it is' },
  'post /v1/users/me/export': 'password',
  'post /v1/admin/users/{id}/erasure': 'step-up',
  'post /v1/api-keys': 'password',
  'post /v1/api-keys/{id}/rotate': 'password',
  'post /v1/transfers': 'pin',
  'post /v1/transfers/{id}/receipt': { none: 'states what the transfer shows, to the same person' },
  'post /v1/withdrawals': 'pin',
  'post /v1/holds': 'pin',
  'patch /v1/wallets/{id}': {
    none: 'a name of the own wallet, which nobody else reads',
  },
  'post /v1/wallets/{id}/unfreeze': {
    none: 'payments need the PIN all the same; freezes by PINs or staff stay',
  },
  'delete /v1/limits/{action}': { none: 'the limit of the tier stays, and payments need the PIN' },
  'patch /v1/limits/{action}': { none: 'only ever below the limit of the tier, and payments need the PIN' },
  'put /v1/limits/{action}': { none: 'only ever below the limit of the tier, and payments need the PIN' },
  'post /v1/holds/{id}/capture': { none: 'takes what its payer has approved by PIN' },
  'post /v1/holds/{id}/void': { none: 'gives money back to its payer' },
  'post /v1/deposits': { none: 'money comes in' },
  'post /v1/transfers/preview': { none: 'nothing is done' },
  'post /v1/wallets': { none: 'an empty wallet' },
  'delete /v1/wallets/{id}': { none: 'only an empty one, and another can be opened' },
  'post /v1/wallets/{id}/freeze': { none: 'takes power away' },
  'delete /v1/api-keys/{id}': { none: 'takes power away' },
  'delete /v1/sessions/{id}': { none: 'takes power away' },
  'post /v1/auth/logout': { none: 'takes power away' },
  'post /v1/auth/logout-all': { none: 'takes power away' },
  'delete /v1/users/me/external-identities/{id}': {
    none: 'takes power away, and never the last way to sign in',
  },
  'patch /v1/notifications/preferences': { none: 'what one is told; warnings stay on' },
  'post /v1/notifications/read-all': { none: 'a mark of the own notifications' },
  'post /v1/notifications/{id}/read': { none: 'a mark of the own notifications' },
  'post /v1/webhooks': 'password',
  'patch /v1/webhooks/{id}': 'password',
  'post /v1/webhooks/{id}/rotate-secret': 'password',
  'post /v1/webhooks/{id}/test': { none: 'goes where the owner has said' },
  'post /v1/webhooks/{id}/redrive': { none: 'goes where the owner has said' },
  'post /v1/webhooks/{id}/deliveries/{deliveryId}/redrive': { none: 'goes where the owner has said' },
  'delete /v1/webhooks/{id}': { none: 'takes power away' },
  'post /v1/admin/users/{id}/webhooks/{webhookId}/disable': { none: 'takes power away' },
  'post /v1/admin/webhooks': 'step-up',
  'patch /v1/admin/webhooks/{id}': 'step-up',
  'post /v1/admin/webhooks/{id}/rotate-secret': 'step-up',
  'post /v1/admin/webhooks/{id}/test': 'step-up',
  'post /v1/admin/webhooks/{id}/redrive': 'step-up',
  'post /v1/admin/webhooks/{id}/deliveries/{deliveryId}/redrive': 'step-up',
  'delete /v1/admin/webhooks/{id}': 'step-up',
  'delete /v1/admin/users/{id}/mail-block': { none: 'mail of our own goes to the address of the account' },
  'patch /v1/users/me': { none: 'a name, which an event tells of' },
  'patch /v1/admin/users/{id}/role': 'step-up',
  'post /v1/admin/users/{id}/reactivate': 'step-up',
  'delete /v1/admin/users/{id}/second-factor': 'step-up',
  'post /v1/admin/transfers/{id}/reversals': 'step-up',
  'post /v1/admin/wallets/{id}/unfreeze': 'step-up',
  'put /v1/admin/wallets/{id}/limits/{action}': 'step-up',
  'post /v1/admin/users/{id}/deactivate': { none: 'takes power away' },
  'delete /v1/admin/users/{id}/sessions': { none: 'takes power away' },
  'delete /v1/admin/users/{id}/api-keys/{keyId}': { none: 'takes power away' },
  'post /v1/admin/wallets/{id}/freeze': { none: 'takes power away' },
  'post /v1/admin/holds/{id}/void': { none: 'gives money back to its payer' },
}
const PROOF_FIELDS = {
  password: ['password', 'currentPassword'],
  pin: ['pin', 'currentPin'],
  code: ['code', 'otp'],
}

test('every route that changes something for signed-in users is known with the proof that it asks for', () => {
  const changing = operations.filter(({ method, of }) => of.security !== undefined && method !== 'get')
  expect(changing.map(({ name }) => name).sort()).toEqual(Object.keys(PROOFS).sort())
  const broken = changing.flatMap(({ name, of }) => {
    const proof = PROOFS[name]!
    if (typeof proof === 'object') return []
    if (proof === 'step-up') return of['x-step-up'] === undefined ? [`${name}: no x-step-up`] : []
    const fields = Object.keys(of.requestBody?.content['application/json'].schema.properties ?? {})
    return PROOF_FIELDS[proof].some(field => fields.includes(field)) ? [] : [`${name}: no ${proof}`]
  })
  expect(broken).toEqual([])
})

/** zod resolves references at `$defs`, where JSON Schema stores definitions. */
const schemaOf = (media: Json) =>
  z.fromJSONSchema(
    JSON.parse(
      JSON.stringify({ ...media.schema, $defs: document.components.schemas }).replaceAll(
        '#/components/schemas/',
        '#/$defs/',
      ),
    ),
  )

test('every JSON body and answer has an example that its own schema takes', () => {
  const broken: string[] = []
  const check = (what: string, content: Json) => {
    for (const [type, media] of Object.entries<Json>(content ?? {})) {
      if (type === 'application/pdf') continue
      const examples =
        media.example === undefined
          ? Object.values<Json>(media.examples ?? {}).map(({ value }) => value)
          : [media.example]
      if (examples.length === 0) broken.push(`${what}: none`)
      const schema = schemaOf(media)
      for (const example of examples) {
        const { error } = schema.safeParse(example)
        if (error) broken.push(`${what}: ${JSON.stringify(error.issues)}`)
      }
    }
  }
  for (const { name, of } of operations) {
    check(`${name} body`, of.requestBody?.content)
    for (const [status, { content }] of Object.entries<Json>(of.responses))
      check(`${name} ${status}`, content)
  }
  expect(broken).toEqual([])
})

test('every body that names its fields refuses others', () => {
  const schemaOf = ({ of }: Operation) => of.requestBody?.content['application/json'].schema
  expect(
    those(
      operation => schemaOf(operation)?.additionalProperties !== false && schemaOf(operation) !== undefined,
    ),
  ).toEqual([])
})

test('every refusal stands there with its code and an example of it', () => {
  const statusOf = ({ value }: Json) => value.status
  for (const { name, of } of operations) {
    for (const [status, response] of Object.entries<Json>(of.responses)) {
      if (Number(status) < 400) continue
      const { examples } = response.content['application/problem+json']
      for (const [code, example] of Object.entries<Json>(examples)) {
        expect(example.value.code, name).toBe(code)
        expect(statusOf(example), name).toBe(Number(status))
        expect(response.description, name).toContain(code)
      }
    }
  }
})

test('docs/api.md names every route', () => {
  const text = readFileSync(join(import.meta.dirname, '..', 'docs', 'api.md'), 'utf8')
  expect(those(({ path }) => !text.includes(path))).toEqual([])
})

test('what moves money needs a key, and says so', () => {
  const keyOf = ({ of }: Operation) =>
    of.parameters?.find((parameter: Json) => parameter.name === 'idempotency-key')?.required
  expect(those(operation => keyOf(operation) === true).sort()).toEqual([
    'post /v1/admin/transfers/{id}/reversals',
    'post /v1/deposits',
    'post /v1/holds',
    'post /v1/holds/{id}/capture',
    'post /v1/transfers',
    'post /v1/withdrawals',
  ])
})
