import { createRoute, z } from '@hono/zod-openapi'
import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import {
  BODY_PROBLEMS,
  type Guards,
  jsonAnswer,
  jsonBody,
  newRoutes,
  problemResponses,
  type Routes,
  reasonField,
  SIGNED_IN_PROBLEMS,
  STAFF_PROBLEMS,
  STEP_UP_PROBLEMS,
  stepUpHeader,
  uuidParam,
} from '../http/define-route.ts'
import { password } from '../identity/accounts/account-fields.ts'
import type { Accounts } from '../identity/accounts/accounts.ts'
import type { Announce } from '../identity/events/announce.ts'
import type { PersonKeys } from '../identity/persons/person-keys.ts'
import { findUser } from '../identity/persons/sql/users.ts'
import type { ManageUsers } from '../identity/staff/manage-users.ts'
import type { InTransaction } from '../outbox/in-transaction.ts'
import { appendToOutbox } from '../outbox/sql/outbox.ts'
import { ProblemError, validationProblem } from '../problems/problem.ts'
import { deletionSchema, viewDeletion } from './deletion-view.ts'
import { blockedProblem, type ErasePerson } from './erase-person.ts'
import { deleteErasure, type ErasureSource, readErasure } from './sql/erasures.ts'

export type DeletionDeps = {
  guards: Guards
  sql: Database
  inTransaction: InTransaction
  announce: Pick<Announce, 'identityEvent' | 'mail' | 'mailWithSecret'>
  personKeys: Pick<PersonKeys, 'encryptFor'>
  confirmPassword: Accounts['confirmPassword']
  staff: Pick<ManageUsers, 'requirePower'>
  erasePerson: ErasePerson
  /** How long a user can cancel the deletion that they asked for. */
  waitMs: number
  clock: Clock
}

/** The purpose under which staff's reason is sealed, for the member of staff: the person's key is destroyed. */
const REASON_PURPOSE = 'erasure-reason'
/** The mail about a deletion is worth sending for a day. */
const MAIL_MS = 24 * 60 * 60 * 1_000

const tags = ['Privacy']
const userParams = z.object({ id: uuidParam })

const askRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/users/me/deletion',
    tags,
    summary: 'Asks for the deletion of the own account',
    description:
      'With the password. It is due after a waiting time, in which it can be cancelled; you are told by mail. Then ' +
      'wallets are closed, and everything about you is erased: see docs/privacy.md. Refused while something stands in the ' +
      'way, which `blockers` names. A repeat changes nothing.',
    ...signedIn({ limit: 'LOGIN', guardsMoney: true }),
    request: { body: jsonBody(z.strictObject({ password })) },
    responses: {
      202: jsonAnswer('It waits to be due', deletionSchema),
      ...problemResponses(
        ...BODY_PROBLEMS,
        ...SIGNED_IN_PROBLEMS,
        'PASSWORD_MISMATCH',
        'NO_PASSWORD',
        'ERASURE_BLOCKED',
        'PERSON_ERASED',
      ),
    },
  })

const readRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/users/me/deletion',
    tags,
    summary: 'Whether the own account is to be deleted, and what stands in the way',
    ...signedIn(),
    responses: {
      200: jsonAnswer('The deletion', deletionSchema),
      ...problemResponses(...SIGNED_IN_PROBLEMS),
    },
  })

const cancelRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'delete',
    path: '/v1/users/me/deletion',
    tags,
    summary: 'Cancels the deletion of the own account',
    description:
      'Only what you asked for yourself, until it has happened. Wallets that are closed by then stay so. A repeat changes nothing.',
    ...signedIn({ guardsMoney: true }),
    responses: {
      200: jsonAnswer('The account stays, unless staff decided otherwise', deletionSchema),
      ...problemResponses(...SIGNED_IN_PROBLEMS),
    },
  })

const eraseRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/admin/users/{id}/erasure',
    tags: ['Staff'],
    summary: 'Erases a person',
    description:
      'At once and for ever: nobody can take it back, so it needs super_admin. Refused while something stands in the way, ' +
      'which `blockers` names. The reason is kept, and must not name the person. Never a person of your own account.',
    ...signedIn({ guardsMoney: true, role: 'super_admin', stepUp: true }),
    request: {
      params: userParams,
      headers: stepUpHeader,
      body: jsonBody(
        z.strictObject({ reason: reasonField.openapi({ example: 'Asked for in writing, case 4711' }) }),
      ),
    },
    responses: {
      200: jsonAnswer('The person is erased', deletionSchema),
      202: jsonAnswer('It goes on by itself: the wallets are not closed yet', deletionSchema),
      ...problemResponses(
        'USER_NOT_FOUND',
        'ERASURE_BLOCKED',
        'PERSON_ERASED',
        ...STAFF_PROBLEMS,
        ...STEP_UP_PROBLEMS,
        ...BODY_PROBLEMS,
      ),
    },
  })

const readErasureRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/admin/users/{id}/erasure',
    tags: ['Staff'],
    summary: 'Whether a person is erased or to be erased, and what stands in the way',
    description: 'Needs admin.',
    ...signedIn({ role: 'admin' }),
    request: { params: userParams },
    responses: {
      200: jsonAnswer('The deletion', deletionSchema),
      ...problemResponses('USER_NOT_FOUND', 'VALIDATION_ERROR', ...STAFF_PROBLEMS),
    },
  })

/** Whether a text names a person: their address, or their whole name. */
const doesName = (text: string, { email, fullName }: { email: string; fullName: string }): boolean =>
  [email, fullName].some(known => known !== '' && text.toLowerCase().includes(known.toLowerCase()))

/** The deletion of the own account, and the erasure of a person by staff. */
export const deletionRoutes = (deps: DeletionDeps): Routes => {
  const { guards, sql, inTransaction, announce, personKeys, erasePerson, clock } = deps
  const routes = newRoutes()

  const show = async (userId: string, source: ErasureSource) => {
    const user = await findUser(sql, userId)
    if (!user) throw new ProblemError('USER_NOT_FOUND', 'id: there is no such user.')
    const erasure = await readErasure(sql, userId)
    const blockers = erasure?.erasedAt ? [] : await erasePerson.findBlockers(user, erasure?.source ?? source)
    return viewDeletion(erasure, blockers, clock.now())
  }

  routes.openapi(askRoute(guards), async context => {
    const { userId } = context.var.user
    const { traceparent } = context.var
    await deps.confirmPassword(userId, context.req.valid('json').password)
    const dueAt = new Date(clock.now() + deps.waitMs)
    await erasePerson.decide({ userId, source: 'self', byUserId: userId, reason: null, dueAt }, async tx => {
      const secret = { dueAt: dueAt.toISOString() }
      const expiresAt = new Date(clock.now() + MAIL_MS)
      await appendToOutbox(tx, [
        announce.identityEvent('DeletionRequested', { userId, dueAt: dueAt.getTime() }, traceparent),
        await announce.mailWithSecret(
          { userId, template: 'deletion_requested', secret, expiresAt },
          traceparent,
        ),
      ])
    })
    return context.json(await show(userId, 'self'), 202)
  })

  routes.openapi(readRoute(guards), async context =>
    context.json(await show(context.var.user.userId, 'self'), 200),
  )

  routes.openapi(cancelRoute(guards), async context => {
    const { userId } = context.var.user
    const { traceparent } = context.var
    await inTransaction(async tx => {
      if (!(await deleteErasure(tx, userId, 'self'))) return
      await appendToOutbox(tx, [
        announce.identityEvent('DeletionCancelled', { userId }, traceparent),
        await announce.mail({ userId, template: 'deletion_cancelled' }, traceparent),
      ])
    })
    return context.json(await show(userId, 'self'), 200)
  })

  routes.openapi(eraseRoute(guards), async context => {
    const { id: userId } = context.req.valid('param')
    const { reason } = context.req.valid('json')
    const { traceparent } = context.var
    const byUserId = context.var.user.userId
    await deps.staff.requirePower({ byUserId, userId })
    const user = await findUser(sql, userId)
    if (user && doesName(reason, user)) {
      throw validationProblem([{ field: 'reason', rule: 'must not name the person, because it is kept' }])
    }
    const sealed = await personKeys.encryptFor(byUserId, reason, REASON_PURPOSE)
    const dueAt = new Date(clock.now())
    await erasePerson.decide({ userId, source: 'staff', byUserId, reason: sealed, dueAt })
    const progress = await erasePerson.erase(userId, traceparent)
    if (progress.state === 'blocked') throw blockedProblem(progress.blockers)
    return context.json(await show(userId, 'staff'), progress.state === 'erased' ? 200 : 202)
  })

  routes.openapi(readErasureRoute(guards), async context =>
    context.json(await show(context.req.valid('param').id, 'staff'), 200),
  )

  return routes
}
