/*
 * check.h - checks for the unit tests: a failing one prints where and what, and ends the
 * program with 1.
 */
#ifndef STOMP_TESTS_CHECK_H
#define STOMP_TESTS_CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(cond)                                                                        \
	do {                                                                               \
		if (!(cond)) {                                                             \
			fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__,       \
				#cond);                                                    \
			exit(1);                                                           \
		}                                                                          \
	} while (0)

/* Integers. */
#define CHECK_EQ(a, b)                                                                     \
	do {                                                                               \
		long long a_ = (long long)(a), b_ = (long long)(b);                        \
		if (a_ != b_) {                                                            \
			fprintf(stderr, "%s:%d: %s is %lld, not %s (%lld)\n", __FILE__,    \
				__LINE__, #a, a_, #b, b_);                                 \
			exit(1);                                                           \
		}                                                                          \
	} while (0)

/* Strings; NULL equals only NULL. */
#define CHECK_STR(a, b)                                                                    \
	do {                                                                               \
		const char *a_ = (a), *b_ = (b);                                           \
		if ((!a_ != !b_) || (a_ && strcmp(a_, b_) != 0)) {                         \
			fprintf(stderr, "%s:%d: %s is \"%s\", not \"%s\"\n", __FILE__,     \
				__LINE__, #a, a_ ? a_ : "(null)", b_ ? b_ : "(null)");     \
			exit(1);                                                           \
		}                                                                          \
	} while (0)

#endif
