import { z } from '@hono/zod-openapi'
import { timestamp } from '../http/define-route.ts'
import type { Blocker, Erasure } from './sql/erasures.ts'

export const deletionSchema = z
  .object({
    state: z.enum(['none', 'waiting', 'blocked', 'erasing', 'erased']).openapi({
      description:
        'waiting: until `dueAt` it can be cancelled. blocked: it is due, and `blockers` stand in its way; tried again every hour. erasing: under way.',
    }),
    source: z.enum(['self', 'staff', 'command']).nullable(),
    requestedAt: timestamp.nullable(),
    dueAt: timestamp.nullable(),
    erasedAt: timestamp.nullable(),
    blockers: z
      .array(
        z.object({
          code: z.enum([
            'WALLET_HAS_BALANCE',
            'WALLET_HAS_HOLDS',
            'WALLET_FROZEN',
            'PAYMENT_PENDING',
            'REQUEST_PENDING',
            'HAS_STAFF_ROLE',
            'DEACTIVATED_BY_STAFF',
          ]),
          walletId: z.uuid().optional(),
          amount: z.string().optional(),
          currency: z.string().optional(),
          source: z.string().optional(),
          transferId: z.uuid().optional(),
          role: z.string().optional(),
        }),
      )
      .openapi({ description: 'What stands in the way now: 20 at most' }),
  })
  .openapi('Deletion', {
    example: {
      state: 'waiting',
      source: 'self',
      requestedAt: '2026-01-31T09:30:00.000Z',
      dueAt: '2026-02-07T09:30:00.000Z',
      erasedAt: null,
      blockers: [],
    },
  })

/** A deletion as its user and staff see it. */
export const viewDeletion = (
  erasure: Erasure | undefined,
  blockers: Blocker[],
  now: number,
): z.infer<typeof deletionSchema> => {
  if (!erasure) {
    return { state: 'none', source: null, requestedAt: null, dueAt: null, erasedAt: null, blockers }
  }
  const { source, requestedAt, dueAt, erasedAt, blocked } = erasure
  const due = dueAt.getTime() > now ? 'waiting' : blocked ? 'blocked' : 'erasing'
  return {
    state: erasedAt ? 'erased' : due,
    source,
    requestedAt: requestedAt.toISOString(),
    dueAt: dueAt.toISOString(),
    erasedAt: erasedAt?.toISOString() ?? null,
    blockers: erasedAt ? [] : blockers,
  }
}
