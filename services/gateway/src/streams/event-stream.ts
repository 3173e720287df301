import { z } from '@hono/zod-openapi'

/** The description that the routes of live streams share. */
export const STREAM_DESCRIPTION =
  'Server-Sent Events. The first is `ready`, whose id states where the stream begins: after the one of Last-Event-ID, ' +
  'otherwise with what is new from now on. Ids count from 1 without a gap. A comment comes every 15 seconds. The stream ' +
  'ends with the event `end` and a problem code once the token has expired (`TOKEN_EXPIRED`), the session or key has ' +
  'ended (`TOKEN_REVOKED`), the account is disabled (`ACCOUNT_DISABLED`) or the gateway restarts ' +
  '(`SERVICE_UNAVAILABLE`): connect again with Last-Event-ID, and nothing is missed.'

/** The id of the last event that the client has seen; see WHATWG HTML, 9.2.4. */
export const lastEventId = z
  .string()
  .regex(/^(0|[1-9][0-9]{0,17})$/, 'must be the id of an event of this stream')
  .transform(BigInt)
  .optional()
  .openapi({
    type: 'string',
    example: '41',
    description: 'The id of the last event that the client has seen',
  })

/** An answer of Server-Sent Events. */
export const streamAnswer = (description: string, example: string) => ({
  description,
  content: { 'text/event-stream': { schema: z.string(), example } },
})
