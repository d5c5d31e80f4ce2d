# docs/ride-hailing.md, run as it is over three regions: six kinds of data, each where it belongs.

use strict;
use warnings;

use Test::More;

use PgTide::Docs;
use PgTide::Mesh;

my $PAGE = 'docs/ride-hailing.md';
my %side = reverse %PgTide::Mesh::REGION;
my @regions = sort keys %side;
my @GLOBAL = qw(user_profiles fare_config surge_zones payment_methods);

my $mesh = PgTide::Mesh->new(sides => [qw(us eu ap)]);
my $run = sub { $mesh->sql($side{ $_[0] }, $_[1]); };

PgTide::Docs::run($PAGE, qr/CREATE TABLE|class_create|link_add/, \@regions, $run);
$mesh->start_relays;
ok(defined $mesh->wait_copied(@$_), "$_->[0] takes rows from $_->[1]") for $mesh->ways;

PgTide::Docs::run($PAGE, qr/INSERT INTO/, \@regions, $run);
$mesh->settle;
PgTide::Docs::run($PAGE, qr/UPDATE payment_methods/, \@regions, $run);
$mesh->settle;

$mesh->same_tables('what is global is the same everywhere', \@GLOBAL);
is($mesh->sql($_, 'SELECT brand, last_four FROM payment_methods WHERE user_id = 7'), 'amex|2222', "$_ has the new payment method") for $mesh->sides;
is($mesh->sql($_, 'SELECT count(*) FROM fare_config, surge_zones'), 2, "$_ has fares and zones") for $mesh->sides;
my %own = (us => '1|500', eu => '2|600', ap => '|');
is($mesh->sql($_, q{SELECT (SELECT string_agg(id::text, ' ') FROM trips), (SELECT string_agg(driver_id::text, ' ') FROM driver_location)}),
	$own{$_}, "$_ has its own trips and drivers only") for $mesh->sides;
is($mesh->sql('us', q{SELECT string_agg(DISTINCT prrelid::regclass::text, ' ') FROM pg_publication_rel WHERE prrelid IN ('trips'::regclass, 'driver_location'::regclass)}),
	'', '... which no publication has');

# What the page's first table says is what the classes say.
my %said = map { /^\| [\w ]+ \| (\w+) \| [^|]+ \| (?:(\d+) s)? ?\| [^|]+ \| `(\w+)` \|$/ ? ($3 => [ $1, $2 ]) : () } split /\n/, PgTide::Docs::slurp($PAGE);
is(scalar keys %said, 6, 'six kinds of data');
for my $preset (sort keys %said)
{
	my ($scope, $seconds) = @{ $said{$preset} };
	my $is = $mesh->sql('us', "SELECT scope, CASE WHEN scope <> 'regional' THEN extract(epoch FROM objective)::int END FROM tide.classes WHERE options ->> 'preset' = '$preset'");
	is($is, "$scope|" . ($seconds // ''), "$preset: $is");
}

for my $side ($mesh->sides)
{
	ok(defined $mesh->wait_value($side, 'SELECT bool_and(agrees) FROM tide.classes', 't', 20), "$side: the declarations agree");
	is($mesh->sql($side, 'SELECT count(DISTINCT class), count(DISTINCT region) FROM tide.lag'), '4|2', '... lag is shown by class and region');
	ok(defined $mesh->wait_value($side, 'SELECT bool_and(samples > 0 AND met_share IS NOT NULL AND p99 IS NOT NULL) FROM tide.slo', 't', 20), '... and how often objectives are met');
}
# Changed in one region only: noticed, and named.
$mesh->sql('us', q{SELECT tide.class_alter('payment_methods', '{"slo": "1 hour"}')});
ok(defined $mesh->wait_value('eu', q{SELECT differences::text FROM tide.classes WHERE NOT agrees},
	'{"slo is 00:00:05 here, 01:00:00 in region \"us-east\""}', 10), 'a class changed in one region only is named in another');
$mesh->stop;
done_testing();
