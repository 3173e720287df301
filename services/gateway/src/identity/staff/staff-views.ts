import type { Context } from 'hono'
import { matchedRoutes } from 'hono/route'
import type { GatewayEnv } from '../../http/context.ts'
import type { InTransaction } from '../../outbox/in-transaction.ts'
import { appendToOutbox } from '../../outbox/sql/outbox.ts'
import type { Announce } from '../events/announce.ts'

/** Records a read by a member of staff; rejects if the record cannot be stored. */
export type RecordView = (context: Context<GatewayEnv>) => Promise<void>

/**
 * Records reads by staff for the audit trail: the route, the ids in its path and the ids that a list returned. The
 * query is left out, because it may contain a mail address. The record is stored before the answer is sent, so that
 * nothing is shown without a trace.
 */
export const createRecordView =
  (deps: { inTransaction: InTransaction; announce: Announce }): RecordView =>
  async context => {
    const { user, traceparent, requestId, viewed = [] } = context.var
    const route = matchedRoutes(context).findLast(({ method }) => method !== 'ALL')?.path ?? ''
    const inPath = Object.values(context.req.param() as Record<string, string>).map(id => id.toLowerCase())
    const view = { userId: user.userId, route, objectIds: [...inPath, ...viewed], requestId }
    await deps.inTransaction(tx =>
      appendToOutbox(tx, [deps.announce.identityEvent('StaffViewed', view, traceparent)]),
    )
  }
