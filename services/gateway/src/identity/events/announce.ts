import { randomUUID } from 'node:crypto'
import { notificationIdOf } from '@pennywire/contracts/ids.ts'
import type { Records } from '@pennywire/contracts/schemas.ts'
import type { Codec } from '@pennywire/kafka/codec.ts'
import { envelope, type OutgoingRecord } from '@pennywire/kafka/record.ts'
import type { NoticeData, NoticeType } from '@pennywire/messages/notices.ts'
import type { Clock } from '@pennywire/runtime/clock.ts'
import { CompactEncrypt, importJWK, type JWK } from 'jose'
import { causeHeaders } from '../../queues/request-scope.ts'

type IdentityRecords = {
  [Name in keyof Records as Name extends `pennywire.identity.${infer Short}` ? Short : never]: Records[Name]
}

export type Announce = {
  /** A record for `identity.events`, appended to the outbox by the transaction that makes the change. */
  identityEvent: <Name extends keyof IdentityRecords & string>(
    name: Name,
    fact: Omit<IdentityRecords[Name], 'eventId' | 'occurredAt'>,
    traceparent: string | undefined,
    /** Of a change that another database has recorded: its name and its time there. */
    recorded?: { eventId: string; occurredAt: number },
  ) => OutgoingRecord
  /** A mail with a secret, for `notifier.commands`: the secret is a JWE that only the notifier can decrypt. */
  mailWithSecret: (
    mail: {
      userId: string
      template: string
      secret: Record<string, string>
      expiresAt: Date
    },
    traceparent: string | undefined,
  ) => Promise<OutgoingRecord>
  /** A notification mail without a secret. */
  mail: (mail: { userId: string; template: string }, traceparent: string) => Promise<OutgoingRecord>
  /** What only the notifier can open: a JWE under its key. */
  sealForNotifier: (secret: object) => Promise<string>
  /** A notice of what no event states: once for a cause, a user and a type. */
  notice: <Type extends NoticeType>(
    notice: { userId: string; cause: string; transferId: string | null; type: Type; data: NoticeData[Type] },
    traceparent: string | undefined,
  ) => OutgoingRecord
}

/** A notification mail is worth sending for this long. */
const NOTICE_MS = 24 * 60 * 60 * 1_000

/** Creates the records of `identity.events`. */
export const createIdentityEvent =
  (codec: Pick<Codec, 'encode'>, clock: Clock): Announce['identityEvent'] =>
  (name, fact, traceparent, recorded) => {
    const { eventId, occurredAt } = recorded ?? { eventId: randomUUID(), occurredAt: clock.now() }
    const type = `pennywire.identity.${name}` as keyof Records
    const value = { eventId, occurredAt, ...fact } as unknown as Records[typeof type]
    // The operator's webhooks are no user's: each has its own order. Refused requests of no known account have none.
    const { userId, webhookId } = fact as unknown as { userId: string | null; webhookId?: string }
    const key = userId ?? webhookId ?? eventId
    return {
      topic: 'identity.events',
      key,
      value: codec.encode(type, value),
      headers: {
        ...envelope({
          id: eventId,
          type,
          source: 'gateway',
          time: occurredAt,
          subject: key,
          traceparent,
        }),
        ...causeHeaders(),
      },
    }
  }

/** Creates the event and mail records about accounts. */
export const createAnnounce = async (
  codec: Pick<Codec, 'encode'>,
  notifierKey: JWK,
  clock: Clock,
): Promise<Announce> => {
  const recipient = await importJWK(notifierKey, 'ECDH-ES+A256KW')
  const protectedHeader = {
    alg: 'ECDH-ES+A256KW',
    enc: 'A256GCM',
    ...(notifierKey.kid === undefined ? {} : { kid: notifierKey.kid }),
  }

  const sealForNotifier = (secret: object) =>
    new CompactEncrypt(Buffer.from(JSON.stringify(secret)))
      .setProtectedHeader(protectedHeader)
      .encrypt(recipient)

  const mailWithSecret: Announce['mailWithSecret'] = async (
    { userId, template, secret, expiresAt },
    traceparent,
  ) => {
    const commandId = randomUUID()
    const requestedAt = clock.now()
    const type = 'pennywire.notifier.MailRequested'
    const sealed = await sealForNotifier(secret)
    return {
      topic: 'notifier.commands',
      key: userId,
      value: codec.encode(type, {
        commandId,
        userId,
        template,
        secret: sealed,
        expiresAt: expiresAt.getTime(),
        requestedAt,
      }),
      headers: {
        ...envelope({
          id: commandId,
          type,
          source: 'gateway',
          time: requestedAt,
          subject: userId,
          traceparent,
        }),
        ...causeHeaders(),
      },
    }
  }

  return {
    identityEvent: createIdentityEvent(codec, clock),
    sealForNotifier,
    mailWithSecret,
    mail: (mail, traceparent) =>
      mailWithSecret({ ...mail, secret: {}, expiresAt: new Date(clock.now() + NOTICE_MS) }, traceparent),
    notice: ({ userId, cause, transferId, type: noticeType, data }, traceparent) => {
      const commandId = notificationIdOf(cause, userId, noticeType)
      const requestedAt = clock.now()
      const type = 'pennywire.notifier.NoticeRequested'
      return {
        topic: 'notifier.commands',
        key: userId,
        value: codec.encode(type, {
          ...{ commandId, userId, type: noticeType, transferId, data: JSON.stringify(data), requestedAt },
        }),
        headers: {
          ...envelope({
            id: commandId,
            type,
            source: 'gateway',
            time: requestedAt,
            subject: userId,
            traceparent,
          }),
          ...causeHeaders(),
        },
      }
    },
  }
}
