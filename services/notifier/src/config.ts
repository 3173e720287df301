import { topicSettings } from '@pennywire/kafka/check-topics.ts'
import { NOTICE_KINDS } from '@pennywire/messages/notices.ts'
import { jsonFile, serviceSettings } from '@pennywire/runtime/config.ts'
import { databaseUrl } from '@pennywire/runtime/database-url.ts'
import { macKeys } from '@pennywire/runtime/mac-keys.ts'
import { z } from 'zod'
import { privateJwks } from './open-secret.ts'

export const notifierSettings = {
  ...serviceSettings,
  ...topicSettings,
  GATEWAY_READ_URL: databaseUrl.describe("The gateway's views for readers, as `gateway_reader`."),
  LEDGER_READ_URL: databaseUrl.describe(
    "The ledger's views for readers, as `ledger_reader`: what attached receipts state.",
  ),
  RECEIPT_KEY_FILE: jsonFile(macKeys).describe(
    "The keys of the codes on receipts, the same as the gateway's: the first makes them.",
  ),
  PUBLIC_URL: z
    .url()
    .transform(url => url.replace(/\/$/, ''))
    .describe(
      "Where clients reach the gateway, as in the gateway's settings: the page that checks receipts.",
    ),
  NOTIFIER_PRIVATE_KEY_FILE: jsonFile(privateJwks).describe('Opens the secrets of mails.'),
  SMTP_URL: z.url({ protocol: /^smtps?$/ }).describe('The mail server.'),
  ALLOW_PLAINTEXT: z
    .enum(['true', 'false'])
    .default('false')
    .describe('Lets mails go in plain text where the mail server offers nothing else.'),
  MAIL_FROM: z.string().min(3).describe('Who mails are from.'),
  MAILED_KINDS: z
    .string()
    .default('money_received,money_sent,declined,wallet')
    .transform(text => text.split(',').filter(kind => kind !== ''))
    .pipe(z.array(z.enum(NOTICE_KINDS).exclude(['security'])))
    .describe(
      'The kinds of notifications that come by e-mail to users who have not chosen: money_received, money_sent, declined, holds, wallet; empty for none.',
    ),
  WEBHOOK_RETRY_HOURS: z.coerce
    .number()
    .positive()
    .max(720)
    .default(72)
    .describe('How long a webhook is tried before it fails; it can be sent again from its log.'),
  WEBHOOK_DISABLE_HOURS: z.coerce
    .number()
    .positive()
    .max(720)
    .default(48)
    .describe('An endpoint that has failed for so long without a success is disabled, and its owner told.'),
  WEBHOOK_ALLOW_PRIVATE: z
    .enum(['true', 'false'])
    .default('false')
    .describe('For development: webhooks go by http and to addresses of the own network as well.'),
  PURGE_SECONDS: z.coerce
    .number()
    .min(0.1)
    .max(86_400)
    .default(3_600)
    .describe('How often what is old is deleted.'),
  DELIVERY_KEEP_DAYS: z.coerce
    .number()
    .int()
    .min(1)
    .max(3_650)
    .default(30)
    .describe("Days that a mail's row stays once the mail can be sent no more; it holds no secret then."),
  NOTIFICATION_KEEP_DAYS: z.coerce
    .number()
    .int()
    .min(30)
    .max(36_500)
    .default(730)
    .describe(
      'Days that people can read what happened among their notifications; the transfers themselves stay.',
    ),
}
