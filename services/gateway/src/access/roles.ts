import { ProblemError } from '../problems/problem.ts'

/**
 * Roles in ascending order: each includes the rights of those before it. Stored in `users.roles`, carried in the token.
 */
export const ROLES = ['user', 'moderator', 'admin', 'super_admin'] as const
export type Role = (typeof ROLES)[number]

const rankOf = (role: string): number => (ROLES as readonly string[]).indexOf(role)

const hasRole = ({ roles }: { roles: readonly string[] }, minimum: Role): boolean =>
  roles.some(role => rankOf(role) >= rankOf(minimum))

/** The user's highest role; `user` if this version recognises none. */
export const highestRole = ({ roles }: { roles: readonly string[] }): Role =>
  ROLES.findLast(role => roles.includes(role)) ?? 'user'

/**
 * The roles in the tokens of a session: staff roles only if the session has the second factor, so that neither a stolen
 * password nor a phished one gives power over others.
 */
export const rolesOfSession = (roles: readonly string[], secondFactor: boolean): string[] =>
  roles.filter(role => role === 'user' || secondFactor)

/**
 * Throws INSUFFICIENT_PERMISSIONS unless `staff` may manage a user whose highest role is `role`, or grant that role: an
 * admin up to moderator, a super_admin any. Only a super_admin decides about admins and above.
 */
export const requireAbove = (staff: { roles: readonly string[] }, role: Role): void => {
  if (hasRole(staff, 'super_admin') || rankOf(role) < rankOf(highestRole(staff))) return
  throw new ProblemError('INSUFFICIENT_PERMISSIONS', `role: only a super_admin manages ${role}.`, {
    requiredRole: 'super_admin',
  })
}

/** Throws INSUFFICIENT_PERMISSIONS with the required role, unless one of the user's roles is `minimum` or above. */
export const requireRole = (user: { roles: readonly string[] }, minimum: Role): void => {
  if (hasRole(user, minimum)) return
  const detail = `role: this needs ${minimum} or above, in a session that was opened with the second factor.`
  throw new ProblemError('INSUFFICIENT_PERMISSIONS', detail, { requiredRole: minimum })
}

/**
 * The one ownership rule, for everything that concerns users: an owner reads and moves only their own, staff act only
 * on what is not their own. SQL that selects "the wallet of this user" implements the first half.
 */
export const isAllowed = (
  userId: string,
  as: 'owner' | 'staff',
  concerned: Array<string | null | undefined>,
): boolean => concerned.includes(userId) === (as === 'owner')

/**
 * Throws INSUFFICIENT_PERMISSIONS if staff would act on their own: `concerned` lists the users it concerns, `what`
 * names the object. A colleague must do it, at any role.
 */
export const refuseOwn = (
  userId: string,
  concerned: Array<string | null | undefined>,
  what: string,
): void => {
  if (isAllowed(userId, 'staff', concerned)) return
  throw new ProblemError('INSUFFICIENT_PERMISSIONS', `id: nobody acts as staff on ${what} of their own.`)
}
