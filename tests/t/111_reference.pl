# docs/reference.md is what docs/reference.sql makes of the installed extension, and nothing a person may
# call is without a comment.

use strict;
use warnings;

use Test::More;

use PgTide::Region;
use PostgreSQL::Test::Utils;

my $node = PgTide::Region->make('us');
my ($made) = PostgreSQL::Test::Utils::run_command(
	[ "psql", "-XAtq", "-f", "$ENV{TIDE_TOP}/docs/reference.sql", $node->connstr("postgres") ]);

open my $in, '<', "$ENV{TIDE_TOP}/docs/reference.md" or die "docs/reference.md: $!\n";
my $written = do { local $/ = undef; <$in> };
$written =~ s/\n+\z//;
is($written, $made, 'docs/reference.md (psql -XAtq -f docs/reference.sql > docs/reference.md)');
unlike($made, qr/\|  \|/, 'everything has a comment');

$node->stop;
done_testing();
