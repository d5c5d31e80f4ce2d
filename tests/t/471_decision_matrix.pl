# docs/decision-matrix.md, run as it is over three regions: five scenarios and personal data, each as declared.

use strict;
use warnings;

use Test::More;

use PgTide::Docs;
use PgTide::Mesh;
use PgTide::Process;

my $PAGE = 'docs/decision-matrix.md';
my %side = reverse %PgTide::Mesh::REGION;
my @regions = sort keys %side;

my $mesh = PgTide::Mesh->new(sides => [qw(us eu ap)]);
# Statements that may not be in a transaction run by themselves.
my $run = sub { my ($region, $sql) = @_; $mesh->sql($side{$region}, $_) for $sql =~ /ALTER SYSTEM/ ? split(/(?<=;)\n/, $sql) : $sql; };

PgTide::Docs::run($PAGE, qr/CREATE TABLE|ALTER SYSTEM|link_add/, \@regions, $run);
$mesh->start_relays;
ok(defined $mesh->wait_copied(@$_), "$_->[0] takes rows from $_->[1]") for $mesh->ways;
ok(defined $mesh->wait_value('us', q{SELECT bool_and(listed AND connected) FROM tide.durability}, 't', 30), 'eu answers commits of the ledger');

PgTide::Docs::run($PAGE, qr/INSERT INTO/, \@regions, $run);
is($mesh->sql('eu', 'SELECT cents FROM ledger'), 12000, 'ledger: what has returned is in eu already');
$mesh->settle;
ok(defined $mesh->wait_value($_, 'SELECT (SELECT count(*) FROM telemetry), (SELECT count(*) FROM sessions)', '1|1', 30), "$_ has telemetry and sessions") for $mesh->sides;
$mesh->same_tables('the same everywhere', [qw(user_profiles ledger telemetry currencies sessions)]);

sub refused
{
	my ($side, $sql, $region) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return like($mesh->error_of($side, $sql), qr/ERROR:  TD021: .* is written in region "$region" only/, "$side: $sql");
}
refused('ap', q{UPDATE user_profiles SET name = 'X' WHERE user_id = 1}, 'us-east');
refused('eu', q{INSERT INTO ledger VALUES (2, 'x', 1)}, 'us-east');
refused('ap', q{DELETE FROM currencies}, 'us-east');
PgTide::Docs::run($PAGE, qr/UPDATE user_profiles/, \@regions, $run);
ok(defined $mesh->wait_value('eu', 'SELECT home FROM user_profiles WHERE user_id = 1', 'eu-west'), 'a profile moves');
$mesh->sql('eu', q{UPDATE user_profiles SET name = 'Benjamin' WHERE user_id = 1});
refused('us', q{UPDATE user_profiles SET name = 'X' WHERE user_id = 1}, 'eu-west');

# Personal data: rows and columns where they may be.
my $has = q{SELECT string_agg(format('%s %s', name, coalesce(passport, '-')), ', ' ORDER BY customer_id) FROM customers};
$mesh->settle;
is($mesh->sql('eu', $has), 'Ben US-1234, Ada DE-5678', 'eu may have everything');
is($mesh->sql('us', $has), 'Ben US-1234', 'us has its own');
is($mesh->sql('ap', $has), 'Ben -', 'ap has no European, and no passport');
is($mesh->sql($_, 'SELECT coalesce(sum(rows_against) + sum(values_against), 0) FROM tide.residency_audit()'), 0, "$_ holds nothing against the policy") for $mesh->sides;

# The ledger waits for eu, and others don't.
$mesh->relay('eu')->freeze;
my $commit = PgTide::Process->new(
	name    => 'ledger',
	log     => "$ENV{TIDE_DATA}/ledger.log",
	command => [ 'psql', '-Xq', '-d', $mesh->node('us')->connstr('postgres'), '-c', q{INSERT INTO ledger VALUES (3, 'x', 1)} ])->start;
ok(defined $mesh->wait_value('us', q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'}, 1), 'a commit of the ledger waits while eu is away');
$mesh->sql('us', q{INSERT INTO sessions VALUES ('s-3', 1, '{}')});
pass('... one of the sessions does not');
ok($commit->alive, '... which is still so');
$mesh->relay('eu')->thaw;
ok(defined $commit->wait_end(60), '... until it answers');
is($mesh->sql('eu', 'SELECT count(*) FROM ledger WHERE entry_id = 3'), 1, '... and then has it');

# What the page's table says is what was derived.
my %derived = map { my ($preset, $scope) = /`(\w+)` \| scope `(\w+)`/; $preset ? ($preset => $scope) : () } split /\n/, PgTide::Docs::slurp($PAGE);
is(scalar keys %derived, 5, 'five scenarios');
is($mesh->sql('ap', "SELECT scope FROM tide.classes WHERE options ->> 'preset' = '$_'"), $derived{$_}, "$_: $derived{$_}") for sort keys %derived;
ok(defined $mesh->wait_value($_, 'SELECT bool_and(agrees) FROM tide.classes', 't', 20), "$_: the declarations agree") for $mesh->sides;
$mesh->settle;
$mesh->same_tables('the same everywhere in the end', [qw(user_profiles ledger currencies)]);
is($mesh->sql($_, 'SELECT count(*) FROM tide.pending_changes'), 0, "nothing is parked in $_") for $mesh->sides;
$mesh->stop;
done_testing();
