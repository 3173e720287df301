// Runs in a thread of its own, because one check takes up to a tenth of a second. The only file that imports zxcvbn.
import { parentPort } from 'node:worker_threads'
import { ZxcvbnFactory } from '@zxcvbn-ts/core'
import { adjacencyGraphs, dictionary as common } from '@zxcvbn-ts/language-common'
import { dictionary as english } from '@zxcvbn-ts/language-en'

/**
 * The beginning of a password, the number of characters that follow, and words related to the user that an attacker
 * tries first.
 */
export type MeterQuestion = { password: string; unread: number; about: string[] }
/** Whether an attacker guesses the password among the first. */
export type MeterAnswer = { isGuessedFirst: boolean }

/** Fewer guesses than this are weak: it is zxcvbn's threshold for score 3 ("safely unguessable" online). */
const GUESSES_MIN = 1e8
/** In "Summer2024!" only the word could protect, and known words protect nothing: this many signs around add little. */
const DECORATION_MAX = 8
/** zxcvbn looks up each combination of substitutions separately; its default of 100 takes a second for bad input. */
const SUBSTITUTIONS_MAX = 4

// Without family names and the words of Wikipedia: they double the memory, and passwords rarely contain them.
const { 'diceware-common': _, ...passwords } = common
const { 'lastnames-en': __, 'wikipedia-en': ___, ...commonEnglish } = english
const dictionary = { ...passwords, ...commonEnglish }
const guesser = new ZxcvbnFactory({
  dictionary,
  graphs: adjacencyGraphs,
  l33tMaxSubstitutions: SUBSTITUTIONS_MAX,
})
const words = new Set(Object.values(dictionary).flatMap(list => list.map(word => String(word).toLowerCase())))

const LETTER_OF: Record<string, string> = {
  ...{ '0': 'o', '1': 'i', '3': 'e', '4': 'a', '5': 's', '7': 't', '8': 'b', '@': 'a', $: 's', '!': 'i' },
}

/** Whether the password is one known word, also in "leet" spelling, with a few digits and signs before and after it. */
const isDecoratedWord = (password: string, about: string[]): boolean => {
  const core = /\p{L}(?:.*\p{L})?/su.exec(password)?.[0].toLowerCase() ?? ''
  const word = [...core].map(letter => LETTER_OF[letter] ?? letter).join('')
  const isWord = [core, word].some(each => words.has(each) || about.includes(each))
  return isWord && password.length - core.length <= DECORATION_MAX
}

parentPort!.on('message', ({ password, unread, about }: MeterQuestion) => {
  // An attacker has to guess at least the length of the unread rest.
  const isWeak = () => guesser.check(password, about).guesses * Math.max(1, unread) < GUESSES_MIN
  const isGuessedFirst = (unread === 0 && isDecoratedWord(password, about)) || isWeak()
  parentPort!.postMessage({ isGuessedFirst } satisfies MeterAnswer)
})

// Ready message: the dictionaries are loaded, so each question from now on is answered soon.
parentPort!.postMessage({ isGuessedFirst: false } satisfies MeterAnswer)
