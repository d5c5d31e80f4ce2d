# The tutorial as printed, over gateways between two hubs, a JetStream leaf behind each: both ways, through a cut.

use strict;
use warnings;

use PgTide::TutorialTest;

PgTide::TutorialTest::run('hub');
