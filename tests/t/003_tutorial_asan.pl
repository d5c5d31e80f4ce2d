# The tutorial with relays built with AddressSanitizer and UndefinedBehaviorSanitizer, leaks included:
# what they find ends a relay with a status of its own, and the last assertion fails.

use strict;
use warnings;

use PgTide::TutorialTest;

$ENV{TIDE_PROGRAM} = "$ENV{TIDE_TOP}/build/relay-address+undefined/pg_tide";
$ENV{ASAN_OPTIONS} = 'exitcode=66';
$ENV{UBSAN_OPTIONS} = 'halt_on_error=1:exitcode=66';
$ENV{TSAN_OPTIONS} = 'exitcode=66';

PgTide::TutorialTest::run('leaf');
