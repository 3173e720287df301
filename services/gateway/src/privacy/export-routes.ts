import { createRoute, z } from '@hono/zod-openapi'
import type { Database } from '@pennywire/runtime/database.ts'
import { sessionOf } from '../http/context.ts'
import {
  BODY_PROBLEMS,
  type Guards,
  jsonAnswer,
  jsonBody,
  newRoutes,
  problemResponses,
  type Routes,
  SIGNED_IN_PROBLEMS,
} from '../http/define-route.ts'
import { password } from '../identity/accounts/account-fields.ts'
import type { Accounts } from '../identity/accounts/accounts.ts'
import type { PersonKeys } from '../identity/persons/person-keys.ts'
import { ProblemError } from '../problems/problem.ts'
import { EXPORT_PURPOSE } from './make-exports.ts'
import { readExport, readExportPart, requestExport } from './sql/exports.ts'

export type ExportDeps = {
  guards: Guards
  sql: Database
  personKeys: Pick<PersonKeys, 'decryptFor'>
  confirmPassword: Accounts['confirmPassword']
  /** Called when an export waits. */
  wake: () => void
}

/** A repeat within this time asks for the same export: making one costs thousands of reads. */
const KEEP_MS = 60 * 60 * 1_000

const tags = ['Privacy']
const exportSchema = z
  .object({ status: z.enum(['waiting', 'made']) })
  .openapi('Export', { example: { status: 'waiting' } })

const documentSchema = z
  .looseObject({
    format: z.string(),
    profile: z.looseObject({}),
    wallets: z.array(z.looseObject({})),
    transfers: z.array(z.looseObject({})),
  })
  .openapi('ExportDocument', {
    description: 'Everything about the person. Its fields: docs/privacy.md',
    example: {
      format: 'pennywire-export-1',
      profile: { fullName: 'Alice Smith', email: 'alice@example.com' },
      wallets: [],
      transfers: [],
    },
  })

const askRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/users/me/export',
    tags,
    summary: 'Asks for a copy of all own data',
    description:
      'With the password. It is made apart from the request and kept for a day, for the session that asked. A repeat within ' +
      'an hour asks for the same copy.',
    ...signedIn({ limit: 'LOGIN', guardsMoney: true }),
    request: { body: jsonBody(z.strictObject({ password })) },
    responses: {
      200: jsonAnswer('It is there', exportSchema),
      202: jsonAnswer('It waits to be made', exportSchema),
      ...problemResponses(...BODY_PROBLEMS, ...SIGNED_IN_PROBLEMS, 'PASSWORD_MISMATCH', 'NO_PASSWORD'),
    },
  })

const readRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/users/me/export',
    tags,
    summary: 'Gives the copy of all own data',
    description: 'Only in the session that asked for it.',
    ...signedIn(),
    responses: {
      200: jsonAnswer('The copy', documentSchema),
      202: jsonAnswer('It waits to be made: ask again after `Retry-After`', exportSchema),
      ...problemResponses('EXPORT_NOT_FOUND', ...SIGNED_IN_PROBLEMS),
    },
  })

/** A copy of all own data. */
export const exportRoutes = (deps: ExportDeps): Routes => {
  const { guards, sql, personKeys } = deps
  const routes = newRoutes()

  routes.openapi(askRoute(guards), async context => {
    const { userId, sessionId } = sessionOf(context)
    await deps.confirmPassword(userId, context.req.valid('json').password)
    const isMade = await requestExport(sql, { userId, sessionId, keepMs: KEEP_MS })
    if (!isMade) deps.wake()
    context.header('location', '/v1/users/me/export')
    return context.json({ status: isMade ? ('made' as const) : ('waiting' as const) }, isMade ? 200 : 202)
  })

  routes.openapi(readRoute(guards), async context => {
    const { userId, sessionId } = sessionOf(context)
    const found = await readExport(sql, userId, sessionId)
    const notFound = () =>
      new ProblemError('EXPORT_NOT_FOUND', 'This session has asked for no copy, or it was a day ago.')
    if (!found) throw notFound()
    if (found.parts === null) {
      context.header('retry-after', '1')
      return context.json({ status: 'waiting' as const }, 202)
    }
    const { parts } = found
    const readPiece = async (part: number): Promise<string> => {
      const cipher = await readExportPart(sql, userId, part)
      const text = cipher && (await personKeys.decryptFor(userId, cipher, EXPORT_PURPOSE))
      if (typeof text !== 'string') throw notFound()
      return text
    }
    // The first piece before the answer begins: what is gone by now is a problem, and no broken answer.
    const first = await readPiece(0)
    let next = 1
    const stream = new ReadableStream<Uint8Array>({
      start: controller => controller.enqueue(Buffer.from(first)),
      pull: async controller => {
        if (next < parts) controller.enqueue(Buffer.from(await readPiece(next++)))
        else controller.close()
      },
    })
    return context.body(stream, 200, {
      'content-type': 'application/json',
      'content-disposition': 'attachment; filename="pennywire-export.json"',
    }) as never
  })

  return routes
}
