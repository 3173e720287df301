import type { Database, Tx } from '@pennywire/runtime/database.ts'
import { highestRole, type Role, refuseOwn, requireAbove, requireRole } from '../../access/roles.ts'
import type { InTransaction } from '../../outbox/in-transaction.ts'
import { appendToOutbox } from '../../outbox/sql/outbox.ts'
import { ProblemError } from '../../problems/problem.ts'
import type { Accounts } from '../accounts/accounts.ts'
import { tellSuperAdmins } from '../accounts/tell-super-admins.ts'
import { type ApiKeys, endApiKeys } from '../api-keys/api-keys.ts'
import type { Announce } from '../events/announce.ts'
import type { PersonKeys } from '../persons/person-keys.ts'
import { clearMailBlock } from '../persons/sql/mail-blocks.ts'
import { disableUser, enableUser, findUser, lockUsers, setRoles, type User } from '../persons/sql/users.ts'
import { changeSecondFactorVersion, deleteSecondFactor } from '../second-factor/sql/second-factors.ts'
import { ACCOUNT_DISABLED, type Sessions } from '../sessions/sessions.ts'

/** The purpose under which the reason of a deactivation is sealed for the affected user. */
export const DISABLED_REASON_PURPOSE = 'account-disabled-reason'

/** The purpose under which the reason for removing a second factor is sealed for the affected user. */
export const SECOND_FACTOR_REASON_PURPOSE = 'second-factor-removed-reason'

/** A staff action: the member of staff and the affected user. */
type Staff = { byUserId: string; userId: string }

export type ManageUsers = {
  /** Throws USER_NOT_FOUND. */
  requireUser: (userId: string) => Promise<void>
  /** Whether a member of staff may act on a user's account. Throws as `setRole`. */
  requirePower: (input: Staff) => Promise<void>
  /**
   * Sets a user's role, which ends their sessions. An admin may set roles up to moderator, for users up to moderator; a
   * super_admin any role for any other user. Throws INSUFFICIENT_PERMISSIONS, USER_NOT_FOUND, PERSON_ERASED.
   */
  setRole: (input: Staff & { role: Role }, traceparent: string) => Promise<void>
  /** Disables sign-in to the account and ends live tokens at once. Throws as `setRole`, ACCOUNT_ALREADY_DISABLED. */
  deactivate: (input: Staff & { reason: string }, traceparent: string) => Promise<void>
  /** Reverts a deactivation, by staff or by the user. Throws as `setRole`, ACCOUNT_NOT_DISABLED. */
  reactivate: (input: Staff & { reason: string | null }, traceparent: string) => Promise<void>
  /** Deactivates the user's own account, with their password. Throws PASSWORD_MISMATCH, INSUFFICIENT_PERMISSIONS. */
  deactivateOwn: (userId: string, password: string, traceparent: string) => Promise<void>
  /**
   * Turns off the second factor of a user who has lost it and the recovery codes, and ends their sessions: from now on
   * the password is enough. Throws as `setRole`, 2FA_NOT_ENABLED.
   */
  removeSecondFactor: (input: Staff & { reason: string }, traceparent: string) => Promise<void>
  /** Ends all sessions of a user; returns their number. Throws as `setRole`. */
  endSessions: (input: Staff, traceparent: string) => Promise<number>
  /** Revokes one of a user's API keys. Throws as `setRole`, API_KEY_NOT_FOUND, API_KEY_ENDED. */
  revokeApiKey: (input: Staff & { id: string }, traceparent: string) => Promise<void>
  /** Lets mail go to a user's address again after a bounce or complaint. Throws as `setRole`. */
  unblockMail: (input: Staff, traceparent: string) => Promise<void>
}

/** Staff actions on accounts, and the user's own deactivation, which only staff can revert. */
export const createManageUsers = (deps: {
  sql: Database
  inTransaction: InTransaction
  announce: Announce
  personKeys: PersonKeys
  sessions: Sessions
  accounts: Pick<Accounts, 'confirmPassword'>
  apiKeys: Pick<ApiKeys, 'revoke'>
}): ManageUsers => {
  const { sql, inTransaction, announce, personKeys, sessions, accounts, apiKeys } = deps

  /**
   * Locks both users and checks their current roles: of two super_admins who demote each other at once, the second no
   * longer has the role when its turn comes, and the last one stays.
   */
  const lockBoth = async (tx: Tx, { byUserId, userId }: Staff): Promise<{ staff: User; user: User }> => {
    refuseOwn(byUserId, [userId], 'an account')
    const users = await lockUsers(tx, [byUserId, userId])
    const staff = users.find(({ id }) => id === byUserId)
    const user = users.find(({ id }) => id === userId)
    if (!staff || staff.disabled) throw new ProblemError('ACCOUNT_DISABLED', 'The account is disabled.')
    requireRole(staff, 'admin')
    if (!user) throw new ProblemError('USER_NOT_FOUND', 'id: there is no such user.')
    requireAbove(staff, highestRole(user))
    if (user.erased) throw new ProblemError('PERSON_ERASED', 'id: the person is erased.')
    return { staff, user }
  }

  const disable = async (
    tx: Tx,
    ending: { userId: string; byUserId: string; source: 'self' | 'staff'; reason: Buffer | null },
    traceparent: string,
  ) => {
    const { userId, byUserId, source, reason } = ending
    await disableUser(tx, { id: userId, source, reason })
    const broadcast = await sessions.endIn(tx, { userId, byUserId, reason: ACCOUNT_DISABLED }, traceparent)
    await endApiKeys(tx, announce, { userId, reason: ACCOUNT_DISABLED }, traceparent)
    await appendToOutbox(tx, [
      announce.identityEvent('AccountDeactivated', { userId, source, byUserId, reason }, traceparent),
      await announce.mail({ userId, template: 'account_deactivated' }, traceparent),
    ])
    return broadcast
  }

  const requirePower = (input: Staff) =>
    inTransaction(async tx => {
      await lockBoth(tx, input)
    })

  return {
    requireUser: async userId => {
      if (!(await findUser(sql, userId)))
        throw new ProblemError('USER_NOT_FOUND', 'id: there is no such user.')
    },
    requirePower,

    setRole: async ({ role, ...input }, traceparent) => {
      const broadcast = await inTransaction(async tx => {
        const { staff, user } = await lockBoth(tx, input)
        requireAbove(staff, role)
        const previousRole = highestRole(user)
        if (previousRole === role) return undefined
        const { userId, byUserId } = input
        await setRoles(tx, userId, role === 'user' ? ['user'] : ['user', role])
        const ended = await sessions.endIn(tx, { userId, byUserId, reason: 'role_changed' }, traceparent)
        await appendToOutbox(tx, [
          announce.identityEvent('RoleChanged', { userId, byUserId, previousRole, role }, traceparent),
          await announce.mail({ userId, template: 'role_changed' }, traceparent),
        ])
        if (role === 'super_admin') await tellSuperAdmins(tx, announce, userId, traceparent)
        return ended
      })
      await broadcast?.()
    },

    deactivate: async ({ reason, ...input }, traceparent) => {
      const broadcast = await inTransaction(async tx => {
        const { user } = await lockBoth(tx, input)
        if (user.disabled) {
          throw new ProblemError('ACCOUNT_ALREADY_DISABLED', 'id: the account is disabled already.')
        }
        const sealed = await personKeys.encryptFor(input.userId, reason, DISABLED_REASON_PURPOSE)
        return disable(tx, { ...input, source: 'staff', reason: sealed }, traceparent)
      })
      await broadcast()
    },

    reactivate: async ({ reason, ...input }, traceparent) => {
      const broadcast = await inTransaction(async tx => {
        const { user } = await lockBoth(tx, input)
        if (!user.disabled) throw new ProblemError('ACCOUNT_NOT_DISABLED', 'id: the account is not disabled.')
        const { userId, byUserId } = input
        await enableUser(tx, userId)
        const forgotten = await sessions.forgetDisabled(tx, userId)
        const sealed =
          reason === null ? null : await personKeys.encryptFor(userId, reason, DISABLED_REASON_PURPOSE)
        await appendToOutbox(tx, [
          announce.identityEvent('AccountReactivated', { userId, byUserId, reason: sealed }, traceparent),
          await announce.mail({ userId, template: 'account_reactivated' }, traceparent),
        ])
        return forgotten
      })
      await broadcast()
    },

    deactivateOwn: async (userId, password, traceparent) => {
      await accounts.confirmPassword(userId, password)
      const broadcast = await inTransaction(async tx => {
        const [user] = await lockUsers(tx, [userId])
        // Only staff can reactivate the account, and there may be no other super_admin.
        if (user && highestRole(user) === 'super_admin') {
          throw new ProblemError(
            'INSUFFICIENT_PERMISSIONS',
            'A super_admin is made something less by another one first.',
          )
        }
        if (!user || user.disabled) throw new ProblemError('ACCOUNT_DISABLED', 'The account is disabled.')
        return disable(tx, { userId, byUserId: userId, source: 'self', reason: null }, traceparent)
      })
      await broadcast()
    },

    removeSecondFactor: async ({ reason, ...input }, traceparent) => {
      const { userId, byUserId } = input
      const broadcast = await inTransaction(async tx => {
        await lockBoth(tx, input)
        if (!(await deleteSecondFactor(tx, userId))) {
          throw new ProblemError('2FA_NOT_ENABLED', 'id: the second factor is not turned on.')
        }
        await changeSecondFactorVersion(tx, userId)
        const ending = { userId, byUserId, reason: 'second_factor_removed' }
        const ended = await sessions.endIn(tx, ending, traceparent)
        const sealed = await personKeys.encryptFor(userId, reason, SECOND_FACTOR_REASON_PURPOSE)
        await appendToOutbox(tx, [
          announce.identityEvent('SecondFactorDisabled', { userId, byUserId, reason: sealed }, traceparent),
          await announce.mail({ userId, template: 'second_factor_removed' }, traceparent),
        ])
        return ended
      })
      await broadcast()
    },

    endSessions: async (input, traceparent) => {
      await requirePower(input)
      return (await sessions.end({ ...input, reason: 'ended_by_staff' }, traceparent)).length
    },

    revokeApiKey: async (input, traceparent) => {
      await requirePower(input)
      await apiKeys.revoke(input, traceparent)
    },

    unblockMail: (input, traceparent) =>
      inTransaction(async tx => {
        await lockBoth(tx, input)
        if (!(await clearMailBlock(tx, input.userId))) return
        await appendToOutbox(tx, [announce.identityEvent('MailUnblocked', input, traceparent)])
      }),
  }
}
