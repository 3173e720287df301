import { ProblemError } from '../problems/problem.ts'

/** What a user may do, least first: each may do what those before it may. Kept in `users.roles`, carried in the token. */
export const ROLES = ['user', 'moderator', 'admin', 'super_admin'] as const
export type Role = (typeof ROLES)[number]

const rankOf = (role: string): number => (ROLES as readonly string[]).indexOf(role)

const hasRole = ({ roles }: { roles: readonly string[] }, minimum: Role): boolean =>
  roles.some(role => rankOf(role) >= rankOf(minimum))

/** The highest of somebody's roles; `user` where there is none that this version knows. */
export const highestRole = ({ roles }: { roles: readonly string[] }): Role =>
  ROLES.findLast(role => roles.includes(role)) ?? 'user'

/**
 * The roles that a session's tokens carry: those of staff only where the session has the second factor, so that neither a
 * stolen password nor a phished one gives power over others.
 */
export const rolesOfSession = (roles: readonly string[], secondFactor: boolean): string[] =>
  roles.filter(role => role === 'user' || secondFactor)

/**
 * Throws INSUFFICIENT_PERMISSIONS unless staff may manage somebody whose highest role is `role`, or make them that: an
 * admin those up to moderator, a super_admin anybody. Who is above an admin is no admin's to judge.
 */
export const requireAbove = (staff: { roles: readonly string[] }, role: Role): void => {
  if (hasRole(staff, 'super_admin') || rankOf(role) < rankOf(highestRole(staff))) return
  throw new ProblemError('INSUFFICIENT_PERMISSIONS', `role: only a super_admin manages ${role}.`, {
    requiredRole: 'super_admin',
  })
}

/** Throws INSUFFICIENT_PERMISSIONS, naming what is needed, unless one of the user's roles is this one or above it. */
export const requireRole = (user: { roles: readonly string[] }, minimum: Role): void => {
  if (hasRole(user, minimum)) return
  const detail = `role: this needs ${minimum} or above, in a session that was opened with the second factor.`
  throw new ProblemError('INSUFFICIENT_PERMISSIONS', detail, { requiredRole: minimum })
}

/**
 * The one rule of ownership, for anything that concerns users: as an owner one sees and moves only what is one's own,
 * as staff one acts only on what is not. SQL that asks for "the wallet of this user" is the first half of it.
 */
export const isAllowed = (
  userId: string,
  as: 'owner' | 'staff',
  concerned: Array<string | null | undefined>,
): boolean => concerned.includes(userId) === (as === 'owner')

/**
 * Throws INSUFFICIENT_PERMISSIONS where staff would act on what is their own: `concerned` are the users whom it
 * concerns, `what` names it. A colleague has to, at any role.
 */
export const refuseOwn = (
  userId: string,
  concerned: Array<string | null | undefined>,
  what: string,
): void => {
  if (isAllowed(userId, 'staff', concerned)) return
  throw new ProblemError('INSUFFICIENT_PERMISSIONS', `id: nobody acts as staff on ${what} of their own.`)
}
