import type { Routes } from './define-route.ts'

/** The interface of a room of the gateway to main.ts. */
export type Room = {
  routes: Routes[]
  /** Stops its workers. */
  stop?: () => Promise<unknown>
}
