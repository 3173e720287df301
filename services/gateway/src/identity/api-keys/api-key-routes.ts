import { createRoute, z } from '@hono/zod-openapi'
import { SCOPES } from '../../access/scopes.ts'
import {
  BODY_PROBLEMS,
  cursorParam,
  cutPage,
  type Guards,
  jsonAnswer,
  jsonBody,
  limitParam,
  newRoutes,
  pageOf,
  problemResponses,
  type Routes,
  readIdCursor,
  SIGNED_IN_PROBLEMS,
  timestamp,
  uuidParam,
} from '../../http/define-route.ts'
import { password } from '../accounts/account-fields.ts'
import { label } from '../persons/person-name.ts'
import { pinField } from '../pin/pin-routes.ts'
import type { ApiKey, ApiKeys } from './api-keys.ts'

const LIFE_DAYS = { usual: 90, max: 365 }
const OVERLAP_SECONDS = { usual: 86_400, max: 7 * 86_400 }
const NAME_LENGTH_MAX = 60

const KEY_EXAMPLE = {
  id: '0197f3a2-5b1c-7e44-9a7e-3f0c2b6d1e90',
  name: 'Shop back end',
  prefix: 'pwk_4f1c09ab7e',
  scopes: ['transfers:write', 'transfers:read'],
  maxAmount: '250.00',
  requestsPerMinute: null,
  state: 'active' as const,
  createdAt: '2026-01-31T09:30:00.000Z',
  expiresAt: '2026-05-01T09:30:00.000Z',
  lastUsedAt: '2026-02-01T08:00:12.000Z',
  endedAt: null,
  replaces: null,
}

const keyFields = {
  id: z.uuid(),
  name: z.string().nullable(),
  prefix: z.string().openapi({ description: 'What the key begins with, to recognise it by' }),
  scopes: z.array(z.string()),
  maxAmount: z.string().nullable(),
  requestsPerMinute: z.int().nullable(),
  state: z.enum(['active', 'expired', 'revoked', 'replaced']),
  createdAt: timestamp,
  expiresAt: timestamp,
  lastUsedAt: timestamp.nullable().openapi({ description: 'To the minute' }),
  endedAt: timestamp
    .nullable()
    .openapi({ description: 'From then on it is worthless; to come while it is being replaced' }),
  replaces: z.uuid().nullable().openapi({ description: 'The key in whose place it came' }),
}
const apiKey = z.object(keyFields).openapi('ApiKey', { example: KEY_EXAMPLE })

const SECRET_EXAMPLE = 'pwk_4f1c09ab7e_q1Zb0H6rX2mD9c4vK8sT5wYfJ3nLpA7eGuRiOoVxBzM'
const newApiKey = z
  .object({ ...keyFields, secret: z.string().openapi({ description: 'The key itself, told this once' }) })
  .openapi('NewApiKey', { example: { ...KEY_EXAMPLE, lastUsedAt: null, secret: SECRET_EXAMPLE } })

/** A page of API keys. */
export const apiKeyPage = pageOf(apiKey)

/** The response body of an API key; never contains the secret. */
export const viewApiKey = (key: ApiKey): z.infer<typeof apiKey> => ({
  ...key,
  prefix: `pwk_${key.prefix}`,
  createdAt: key.createdAt.toISOString(),
  expiresAt: key.expiresAt.toISOString(),
  lastUsedAt: key.lastUsedAt?.toISOString() ?? null,
  endedAt: key.endedAt?.toISOString() ?? null,
})

const tags = ['API keys']
const params = z.object({ id: uuidParam })

const PROOF_PROBLEMS = [
  ...BODY_PROBLEMS,
  ...SIGNED_IN_PROBLEMS,
  'PASSWORD_MISMATCH',
  'NO_PASSWORD',
  'PIN_REQUIRED',
  'PIN_NOT_SET',
  'PIN_LOCKED',
  'INVALID_PIN',
  'TOO_MANY_API_KEYS',
] as const

const pin = pinField.nullish().openapi({ description: 'Where a scope lets money leave' })

const createKeyRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/api-keys',
    tags,
    summary: 'Makes an API key for a back end',
    description:
      'It acts as you on the routes whose `x-required-scope` it has, with limits of its own. `transfers:write` and ' +
      '`withdrawals:write` let money leave without a person: they need the PIN here, and no transaction above ' +
      '`maxAmount` or what needs the PIN each time. At most 20 keys at a time.',
    ...signedIn({ limit: 'LOGIN', guardsMoney: true }),
    request: {
      body: jsonBody(
        z
          .strictObject({
            name: label(NAME_LENGTH_MAX),
            scopes: z
              .array(z.enum(SCOPES))
              .min(1)
              .max(SCOPES.length)
              .refine(scopes => new Set(scopes).size === scopes.length, 'must not name a scope twice'),
            expiresInDays: z.int().min(1).max(LIFE_DAYS.max).nullish().openapi({ default: LIFE_DAYS.usual }),
            maxAmount: z
              .string()
              .regex(/^(0|[1-9][0-9]{0,11})(\.[0-9]{1,4})?$/, 'must be a decimal string such as "250.00"')
              .refine(amount => Number(amount) > 0, 'must be more than zero')
              .nullish()
              .openapi({ description: 'The most at once, in whole units of any currency' }),
            requestsPerMinute: z.int().min(1).nullish(),
            password,
            pin,
          })
          .openapi({
            example: {
              name: 'Shop back end',
              scopes: ['transfers:write', 'transfers:read'],
              expiresInDays: 90,
              maxAmount: '250.00',
              password: 'Correct-Horse-7',
              pin: '482915',
            },
          }),
      ),
    },
    responses: {
      201: jsonAnswer('The API key', newApiKey),
      ...problemResponses(...PROOF_PROBLEMS),
    },
  })

const listRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/api-keys',
    tags,
    summary: 'Lists your API keys, newest first',
    description: 'Ended ones too.',
    ...signedIn(),
    request: { query: z.strictObject({ limit: limitParam, cursor: cursorParam }) },
    responses: {
      200: jsonAnswer('A page of API keys', apiKeyPage),
      ...problemResponses('VALIDATION_ERROR', ...SIGNED_IN_PROBLEMS),
    },
  })

const getRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/api-keys/{id}',
    tags,
    summary: 'Shows one of your API keys',
    ...signedIn(),
    request: { params },
    responses: {
      200: jsonAnswer('The API key', apiKey),
      ...problemResponses('API_KEY_NOT_FOUND', 'VALIDATION_ERROR', ...SIGNED_IN_PROBLEMS),
    },
  })

const rotateRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/api-keys/{id}/rotate',
    tags,
    summary: 'Replaces an API key by a new one',
    description:
      'Of the same scopes, limits and life. The old one is good for `overlapSeconds` more, so that the new one can be ' +
      'brought wherever it is used; 0 ends it now. Each key is replaced once.',
    ...signedIn({ limit: 'LOGIN', guardsMoney: true }),
    request: {
      params,
      body: jsonBody(
        z.strictObject({
          overlapSeconds: z
            .int()
            .min(0)
            .max(OVERLAP_SECONDS.max)
            .nullish()
            .openapi({ default: OVERLAP_SECONDS.usual }),
          password,
          pin,
        }),
      ),
    },
    responses: {
      201: jsonAnswer(
        'The new API key',
        newApiKey
          .extend({ replacedEndsAt: timestamp.openapi({ description: 'Until when the old one is good' }) })
          .openapi('RotatedApiKey', {
            example: {
              ...KEY_EXAMPLE,
              lastUsedAt: null,
              replaces: '0197e1b0-8c52-7c0e-8f0e-6a1d0c9b2f43',
              secret: SECRET_EXAMPLE,
              replacedEndsAt: '2026-02-01T09:30:00.000Z',
            },
          }),
      ),
      ...problemResponses(...PROOF_PROBLEMS, 'API_KEY_NOT_FOUND', 'API_KEY_ENDED'),
    },
  })

const revokeRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'delete',
    path: '/v1/api-keys/{id}',
    tags,
    summary: 'Revokes one of your API keys',
    description: 'Every gateway refuses it within a second.',
    ...signedIn(),
    request: { params },
    responses: {
      200: jsonAnswer('The API key is revoked', apiKey),
      ...problemResponses('API_KEY_NOT_FOUND', 'API_KEY_ENDED', 'VALIDATION_ERROR', ...SIGNED_IN_PROBLEMS),
    },
  })

/** The API keys of the signed-in user. No API key authorises these routes, so that no key creates another. */
export const apiKeyRoutes = ({ guards, apiKeys }: { guards: Guards; apiKeys: ApiKeys }): Routes => {
  const routes = newRoutes()

  routes.openapi(createKeyRoute(guards), async context => {
    const { pin = null, maxAmount = null, requestsPerMinute = null, ...input } = context.req.valid('json')
    const expiresInDays = input.expiresInDays ?? LIFE_DAYS.usual
    const { userId } = context.var.user
    const { key, secret } = await apiKeys.create(
      { ...input, expiresInDays, userId, pin, maxAmount, requestsPerMinute },
      context.var.traceparent,
    )
    return context.json({ ...viewApiKey(key), secret }, 201)
  })

  routes.openapi(listRoute(guards), async context => {
    const { userId } = context.var.user
    const { limit, cursor } = context.req.valid('query')
    const found = await apiKeys.list({ userId, before: readIdCursor(cursor), limit: limit + 1 })
    const { page, nextCursor } = cutPage(found, limit)
    return context.json({ items: page.map(viewApiKey), nextCursor }, 200)
  })

  routes.openapi(getRoute(guards), async context =>
    context.json(viewApiKey(await apiKeys.get(context.var.user.userId, context.req.valid('param').id)), 200),
  )

  routes.openapi(rotateRoute(guards), async context => {
    const { pin = null, ...input } = context.req.valid('json')
    const overlapSeconds = input.overlapSeconds ?? OVERLAP_SECONDS.usual
    const { userId } = context.var.user
    const { key, secret, replacedEndsAt } = await apiKeys.rotate(
      { ...input, overlapSeconds, userId, id: context.req.valid('param').id, pin },
      context.var.traceparent,
    )
    return context.json({ ...viewApiKey(key), secret, replacedEndsAt: replacedEndsAt.toISOString() }, 201)
  })

  routes.openapi(revokeRoute(guards), async context => {
    const { userId } = context.var.user
    const { id } = context.req.valid('param')
    await apiKeys.revoke({ userId, id, byUserId: userId }, context.var.traceparent)
    return context.json(viewApiKey(await apiKeys.get(userId, id)), 200)
  })

  return routes
}
