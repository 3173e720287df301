import type { Database } from '@pennywire/runtime/database.ts'

export type MailRecipient = {
  email: string
  /** Null until the address is verified: the sign-up may have come from a stranger. */
  fullName: string | null
  /** The address bounced, or its owner complained: nothing is sent to it any more. */
  blocked: boolean
}

/** A user's address and name as the gateway has them at this moment; undefined where it knows no such user. */
export const readMailRecipient = async (
  gatewayRead: Database,
  userId: string,
): Promise<MailRecipient | undefined> => {
  const [user] = await gatewayRead<MailRecipient[]>`
    select email, case when email_verified then full_name end as "fullName", mail_blocked as blocked
    from gateway_api.users where user_id = ${userId}`
  return user
}

/** A user's name, where the gateway knows the user. */
export const readName = async (gatewayRead: Database, userId: string): Promise<string | undefined> => {
  const [user] = await gatewayRead<{ fullName: string }[]>`
    select full_name as "fullName" from gateway_api.users where user_id = ${userId}`
  return user?.fullName
}
