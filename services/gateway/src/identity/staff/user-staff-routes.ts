import { createRoute, z } from '@hono/zod-openapi'
import { ERASED_NAME } from '@pennywire/messages/mask-name.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import { highestRole, ROLES } from '../../access/roles.ts'
import { sessionOf } from '../../http/context.ts'
import {
  BODY_PROBLEMS,
  cursorParam,
  cutPage,
  type Guards,
  jsonAnswer,
  jsonBody,
  limitParam,
  newRoutes,
  optionalJsonBody,
  pageOf,
  problemResponses,
  type Routes,
  readIdCursor,
  reasonField,
  STAFF_PROBLEMS,
  STEP_UP_PROBLEMS,
  stepUpHeader,
  timestamp,
  uuidParam,
} from '../../http/define-route.ts'
import { ProblemError } from '../../problems/problem.ts'
import { canonicalEmail } from '../accounts/email-address.ts'
import { apiKeyPage, viewApiKey } from '../api-keys/api-key-routes.ts'
import type { ApiKeys } from '../api-keys/api-keys.ts'
import type { PersonKeys } from '../persons/person-keys.ts'
import { findUserForStaff, listUsers, type UserForStaff } from '../persons/sql/users.ts'
import { sessionPage, viewSessions } from '../sessions/session-routes.ts'
import type { Sessions } from '../sessions/sessions.ts'
import { DISABLED_REASON_PURPOSE, type ManageUsers } from './manage-users.ts'

export type AdminUserDeps = {
  guards: Guards
  sql: Database
  personKeys: PersonKeys
  sessions: Sessions
  apiKeys: Pick<ApiKeys, 'list'>
  manageUsers: ManageUsers
}

const role = z.enum(ROLES)

const staffUser = z
  .object({
    id: z.uuid(),
    email: z.string(),
    fullName: z.string().openapi({ description: 'Of an erased person: Erased user' }),
    emailVerified: z.boolean(),
    role,
    secondFactorEnabled: z.boolean(),
    disabled: z
      .object({ at: timestamp, source: z.enum(['self', 'staff']), reason: z.string().nullable() })
      .nullable(),
    erased: z.boolean(),
    createdAt: timestamp,
  })
  .openapi('StaffUser', {
    example: {
      id: '5b0e7f6c-2a43-4d9e-9c63-6f5a1c0a7f11',
      email: 'alice@example.com',
      fullName: 'Alice Smith',
      emailVerified: true,
      role: 'user',
      secondFactorEnabled: true,
      disabled: { at: '2026-01-31T09:30:00.000Z', source: 'staff', reason: 'Reported as stolen, case 4711' },
      erased: false,
      createdAt: '2025-11-02T12:00:00.000Z',
    },
  })

const userParams = z.object({ id: uuidParam })
const NOT_ONES_OWN = 'Never an account of your own.'

const listRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/admin/users',
    tags: ['Staff'],
    summary: 'Lists users',
    description: 'In the order of their addresses. Needs moderator.',
    ...signedIn({ role: 'moderator' }),
    request: {
      query: z.strictObject({
        limit: limitParam,
        cursor: cursorParam,
        email: z
          .string()
          .max(254)
          // Canonicalises a complete address; the beginning of one is only trimmed and lower-cased.
          .transform(text => canonicalEmail(text) ?? text.trim().toLowerCase())
          .optional()
          .openapi({
            type: 'string',
            example: 'ali',
            description: 'The beginning of the address',
          }),
        role: role.optional(),
        disabled: z.enum(['true', 'false']).optional(),
      }),
    },
    responses: {
      200: jsonAnswer('A page of users', pageOf(staffUser)),
      ...problemResponses('VALIDATION_ERROR', ...STAFF_PROBLEMS),
    },
  })

const getRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/admin/users/{id}',
    tags: ['Staff'],
    summary: 'Shows a user',
    description: 'Needs moderator.',
    ...signedIn({ role: 'moderator' }),
    request: { params: userParams },
    responses: {
      200: jsonAnswer('The user', staffUser),
      ...problemResponses('USER_NOT_FOUND', 'VALIDATION_ERROR', ...STAFF_PROBLEMS),
    },
  })

const roleRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'patch',
    path: '/v1/admin/users/{id}/role',
    tags: ['Staff'],
    summary: 'Gives a user a role',
    description:
      'Their sessions end; the next sign-in carries the role. An admin chooses up to moderator, and for nobody who is ' +
      `more; a super_admin chooses any. ${NOT_ONES_OWN}`,
    ...signedIn({ guardsMoney: true, role: 'admin', stepUp: true }),
    request: { params: userParams, headers: stepUpHeader, body: jsonBody(z.strictObject({ role })) },
    responses: {
      200: jsonAnswer('The user', staffUser),
      ...problemResponses(
        'USER_NOT_FOUND',
        'PERSON_ERASED',
        ...STAFF_PROBLEMS,
        ...STEP_UP_PROBLEMS,
        ...BODY_PROBLEMS,
      ),
    },
  })

const deactivateRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/admin/users/{id}/deactivate',
    tags: ['Staff'],
    summary: 'Deactivates an account',
    description: `At once: live tokens are answered \`ACCOUNT_DISABLED\`. Needs admin. ${NOT_ONES_OWN}`,
    ...signedIn({ guardsMoney: true, role: 'admin' }),
    request: {
      params: userParams,
      body: jsonBody(
        z.strictObject({ reason: reasonField.openapi({ example: 'Reported as stolen, case 4711' }) }),
      ),
    },
    responses: {
      200: jsonAnswer('The user', staffUser),
      ...problemResponses(
        'USER_NOT_FOUND',
        'PERSON_ERASED',
        'ACCOUNT_ALREADY_DISABLED',
        ...STAFF_PROBLEMS,
        ...BODY_PROBLEMS,
      ),
    },
  })

const reactivateRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/admin/users/{id}/reactivate',
    tags: ['Staff'],
    summary: 'Activates an account again',
    description: `No matter who deactivated it. Sessions stay ended. Needs admin. ${NOT_ONES_OWN}`,
    ...signedIn({ guardsMoney: true, role: 'admin', stepUp: true }),
    request: {
      params: userParams,
      headers: stepUpHeader,
      body: optionalJsonBody(
        z.strictObject({ reason: reasonField.nullish().openapi({ example: 'Case 4711 is settled' }) }),
      ),
    },
    responses: {
      200: jsonAnswer('The user', staffUser),
      ...problemResponses(
        'USER_NOT_FOUND',
        'PERSON_ERASED',
        'ACCOUNT_NOT_DISABLED',
        ...STAFF_PROBLEMS,
        ...STEP_UP_PROBLEMS,
        ...BODY_PROBLEMS,
      ),
    },
  })

const removeSecondFactorRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'delete',
    path: '/v1/admin/users/{id}/second-factor',
    tags: ['Staff'],
    summary: "Removes a user's second factor",
    description:
      'For somebody who has lost the device and the recovery codes, once staff know who they are. Their sessions end, and ' +
      `the password is enough to sign in until they turn it on again; they are told by mail. Needs admin. ${NOT_ONES_OWN}`,
    ...signedIn({ guardsMoney: true, role: 'admin', stepUp: true }),
    request: {
      params: userParams,
      headers: stepUpHeader,
      body: jsonBody(
        z.strictObject({ reason: reasonField.openapi({ example: 'Identity checked in person, case 4711' }) }),
      ),
    },
    responses: {
      200: jsonAnswer('The user', staffUser),
      ...problemResponses(
        'USER_NOT_FOUND',
        'PERSON_ERASED',
        '2FA_NOT_ENABLED',
        ...STAFF_PROBLEMS,
        ...STEP_UP_PROBLEMS,
        ...BODY_PROBLEMS,
      ),
    },
  })

const sessionsRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/admin/users/{id}/sessions',
    tags: ['Staff'],
    summary: "Lists a user's open sessions",
    description: 'Needs admin.',
    ...signedIn({ role: 'admin' }),
    request: { params: userParams, query: z.strictObject({ limit: limitParam, cursor: cursorParam }) },
    responses: {
      200: jsonAnswer('A page of sessions', sessionPage),
      ...problemResponses('USER_NOT_FOUND', 'VALIDATION_ERROR', ...STAFF_PROBLEMS),
    },
  })

const endSessionsRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'delete',
    path: '/v1/admin/users/{id}/sessions',
    tags: ['Staff'],
    summary: "Ends all of a user's sessions",
    description: `Their tokens stop working at once. Needs admin. ${NOT_ONES_OWN}`,
    ...signedIn({ guardsMoney: true, role: 'admin' }),
    request: { params: userParams },
    responses: {
      200: jsonAnswer(
        'How many sessions have ended',
        z.object({ ended: z.int().openapi({ example: 2 }), at: timestamp }),
      ),
      ...problemResponses('USER_NOT_FOUND', 'PERSON_ERASED', 'VALIDATION_ERROR', ...STAFF_PROBLEMS),
    },
  })

const unblockMailRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'delete',
    path: '/v1/admin/users/{id}/mail-block',
    tags: ['Staff'],
    summary: "Lets mail go to a user's address again",
    description: `After a bounce or complaint; changes nothing where there was none. Needs admin. ${NOT_ONES_OWN}`,
    ...signedIn({ guardsMoney: true, role: 'admin' }),
    request: { params: userParams },
    responses: {
      204: { description: 'Mail goes to it' },
      ...problemResponses('USER_NOT_FOUND', 'PERSON_ERASED', 'VALIDATION_ERROR', ...STAFF_PROBLEMS),
    },
  })

const apiKeysRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/admin/users/{id}/api-keys',
    tags: ['Staff'],
    summary: "Lists a user's API keys, newest first",
    description: 'Ended ones too. Needs admin.',
    ...signedIn({ role: 'admin' }),
    request: { params: userParams, query: z.strictObject({ limit: limitParam, cursor: cursorParam }) },
    responses: {
      200: jsonAnswer('A page of API keys', apiKeyPage),
      ...problemResponses('USER_NOT_FOUND', 'VALIDATION_ERROR', ...STAFF_PROBLEMS),
    },
  })

const revokeApiKeyRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'delete',
    path: '/v1/admin/users/{id}/api-keys/{keyId}',
    tags: ['Staff'],
    summary: "Revokes one of a user's API keys",
    description: `Within a second, on every gateway; its owner is told by mail. Needs admin. ${NOT_ONES_OWN}`,
    ...signedIn({ role: 'admin' }),
    request: { params: userParams.extend({ keyId: uuidParam }) },
    responses: {
      200: jsonAnswer('The API key is revoked', z.object({ id: z.uuid(), endedAt: timestamp })),
      ...problemResponses(
        'USER_NOT_FOUND',
        'PERSON_ERASED',
        'API_KEY_NOT_FOUND',
        'API_KEY_ENDED',
        'VALIDATION_ERROR',
        ...STAFF_PROBLEMS,
      ),
    },
  })

/** All users' accounts, for staff. */
export const adminUserRoutes = (deps: AdminUserDeps): Routes => {
  const { guards, sql, personKeys, sessions, apiKeys, manageUsers } = deps
  const routes = newRoutes()

  const viewForStaff = async (user: UserForStaff): Promise<z.infer<typeof staffUser>> => ({
    id: user.id,
    email: user.email,
    fullName: user.fullName || ERASED_NAME,
    emailVerified: user.emailVerified,
    role: highestRole(user),
    secondFactorEnabled: user.secondFactorEnabled,
    disabled:
      user.disabledAt === null
        ? null
        : {
            at: user.disabledAt.toISOString(),
            source: user.disabledSource === 'self' ? ('self' as const) : ('staff' as const),
            reason:
              user.disabledReason === null
                ? null
                : await personKeys.decryptFor(user.id, user.disabledReason, DISABLED_REASON_PURPOSE),
          },
    erased: user.erased,
    createdAt: user.createdAt.toISOString(),
  })
  const find = async (id: string): Promise<UserForStaff> => {
    const user = await findUserForStaff(sql, id)
    if (!user) throw new ProblemError('USER_NOT_FOUND', 'id: there is no such user.')
    return user
  }
  const show = async (id: string) => viewForStaff(await find(id))

  routes.openapi(listRoute(guards), async context => {
    const { limit, cursor, email = '', role, disabled } = context.req.valid('query')
    const found = await listUsers(sql, {
      emailPrefix: email,
      role,
      disabled: disabled === undefined ? undefined : disabled === 'true',
      afterId: readIdCursor(cursor),
      limit: limit + 1,
    })
    const { page, nextCursor } = cutPage(found, limit)
    context.set(
      'viewed',
      page.map(({ id }) => id),
    )
    return context.json({ items: await Promise.all(page.map(viewForStaff)), nextCursor }, 200)
  })

  routes.openapi(getRoute(guards), async context =>
    context.json(await show(context.req.valid('param').id), 200),
  )

  routes.openapi(roleRoute(guards), async context => {
    const { id } = context.req.valid('param')
    const { role } = context.req.valid('json')
    const byUserId = context.var.user.userId
    await manageUsers.setRole({ byUserId, userId: id, role }, context.var.traceparent)
    return context.json(await show(id), 200)
  })

  routes.openapi(deactivateRoute(guards), async context => {
    const { id } = context.req.valid('param')
    const { reason } = context.req.valid('json')
    const byUserId = context.var.user.userId
    await manageUsers.deactivate({ byUserId, userId: id, reason }, context.var.traceparent)
    return context.json(await show(id), 200)
  })

  routes.openapi(reactivateRoute(guards), async context => {
    const { id } = context.req.valid('param')
    const { reason = null } = context.req.valid('json')
    const byUserId = context.var.user.userId
    await manageUsers.reactivate({ byUserId, userId: id, reason }, context.var.traceparent)
    return context.json(await show(id), 200)
  })

  routes.openapi(removeSecondFactorRoute(guards), async context => {
    const { id } = context.req.valid('param')
    const { reason } = context.req.valid('json')
    const byUserId = context.var.user.userId
    await manageUsers.removeSecondFactor({ byUserId, userId: id, reason }, context.var.traceparent)
    return context.json(await show(id), 200)
  })

  routes.openapi(sessionsRoute(guards), async context => {
    const { id } = context.req.valid('param')
    const { limit, cursor } = context.req.valid('query')
    await find(id)
    const found = await sessions.list({ userId: id, before: readIdCursor(cursor), limit: limit + 1 })
    const { page, nextCursor } = cutPage(found, limit)
    return context.json({ items: viewSessions(page, sessionOf(context).sessionId), nextCursor }, 200)
  })

  routes.openapi(endSessionsRoute(guards), async context => {
    const { id } = context.req.valid('param')
    const byUserId = context.var.user.userId
    const ended = await manageUsers.endSessions({ byUserId, userId: id }, context.var.traceparent)
    return context.json({ ended, at: new Date().toISOString() }, 200)
  })

  routes.openapi(unblockMailRoute(guards), async context => {
    const { id } = context.req.valid('param')
    const byUserId = context.var.user.userId
    await manageUsers.unblockMail({ byUserId, userId: id }, context.var.traceparent)
    return context.body(null, 204)
  })

  routes.openapi(apiKeysRoute(guards), async context => {
    const { id } = context.req.valid('param')
    const { limit, cursor } = context.req.valid('query')
    await find(id)
    const found = await apiKeys.list({ userId: id, before: readIdCursor(cursor), limit: limit + 1 })
    const { page, nextCursor } = cutPage(found, limit)
    return context.json({ items: page.map(viewApiKey), nextCursor }, 200)
  })

  routes.openapi(revokeApiKeyRoute(guards), async context => {
    const { id: userId, keyId: id } = context.req.valid('param')
    const byUserId = context.var.user.userId
    await manageUsers.revokeApiKey({ byUserId, userId, id }, context.var.traceparent)
    return context.json({ id, endedAt: new Date().toISOString() }, 200)
  })

  return routes
}
