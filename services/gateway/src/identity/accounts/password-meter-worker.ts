// Runs in a thread of its own, because one check takes up to a tenth of a second. The only file that imports zxcvbn.
import { parentPort } from 'node:worker_threads'
import { ZxcvbnFactory } from '@zxcvbn-ts/core'
import { adjacencyGraphs, dictionary as common } from '@zxcvbn-ts/language-common'
import { dictionary as english } from '@zxcvbn-ts/language-en'

/**
 * What is asked: the beginning of a password, how many characters follow, and words that a guesser of this password
 * tries first.
 */
export type MeterQuestion = { password: string; unread: number; about: string[] }
/** Whether a guesser finds it among the first. */
export type MeterAnswer = { isGuessedFirst: boolean }

/** Within so many guesses, which is zxcvbn's score 3 ("safely unguessable" online). */
const GUESSES_MIN = 1e8
/** Of "Summer2024!" the word is what protects, and a word protects nothing: so many signs around one change that little. */
const DECORATION_MAX = 8
/** Each combination of substitutions is looked up apart; the usual setting of 100 takes a second for bad input. */
const SUBSTITUTIONS_MAX = 4

// Family names and the words of Wikipedia would double the memory, and what they add is rarely chosen.
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

/** Whether it is one known word, also in "leet" spelling, with a few digits and signs before and after it. */
const isDecoratedWord = (password: string, about: string[]): boolean => {
  const core = /\p{L}(?:.*\p{L})?/su.exec(password)?.[0].toLowerCase() ?? ''
  const word = [...core].map(letter => LETTER_OF[letter] ?? letter).join('')
  const isWord = [core, word].some(each => words.has(each) || about.includes(each))
  return isWord && password.length - core.length <= DECORATION_MAX
}

parentPort!.on('message', ({ password, unread, about }: MeterQuestion) => {
  // Of what is not read at least the length has to be guessed.
  const isWeak = () => guesser.check(password, about).guesses * Math.max(1, unread) < GUESSES_MIN
  const isGuessedFirst = (unread === 0 && isDecoratedWord(password, about)) || isWeak()
  parentPort!.postMessage({ isGuessedFirst } satisfies MeterAnswer)
})

// It has read its dictionaries; what is asked from now on is answered soon.
parentPort!.postMessage({ isGuessedFirst: false } satisfies MeterAnswer)
