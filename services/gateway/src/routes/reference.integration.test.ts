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

/** The operations of which this holds, by name: none where all is well. */
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
    'post /v1/auth/2fa/verify',
    'post /v1/auth/external',
    'post /v1/auth/forgot-password',
    'post /v1/auth/login',
    'post /v1/auth/refresh',
    'post /v1/auth/resend-verification',
    'post /v1/auth/reset-password',
    'post /v1/auth/signup',
    'post /v1/auth/verify-email',
    'post /v1/provider/callbacks',
  ])
  expect(those(({ of }) => of.security !== undefined && of.responses[401] === undefined)).toEqual([])
  expect(those(({ of, path }) => path.includes('/admin/') && of.responses[403] === undefined)).toEqual([])
})

/** zod looks for what is referred to where JSON Schema keeps it. */
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
  const text = readFileSync(join(import.meta.dirname, '..', '..', '..', '..', 'docs', 'api.md'), 'utf8')
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
