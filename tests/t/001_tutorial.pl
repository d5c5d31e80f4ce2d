# The tutorial as printed, between two servers joined by a leaf node: both ways, through a cut.

use strict;
use warnings;

use PgTide::TutorialTest;

PgTide::TutorialTest::run('leaf');
