# What the documents say of rows: the lab's page is made of the lab's files, and they work as it says.

use strict;
use warnings;

use Test::More;

use PgTide::Region;
use PgTide::Relay;
use PgTide::Test qw(wait_until);

sub slurp
{
	my ($path) = @_;
	open my $in, '<', "$ENV{TIDE_TOP}/$path" or die "$path: $!\n";
	local $/ = undef;
	return <$in>;
}

my $lab = slurp('docs/lab.md');
my @blocks = $lab =~ /^```sql\n(.*?)^```$/msg;

for my $file (qw(lab-us.sql lab-eu.sql lab-use.sql))
{
	ok((grep { $_ eq slurp("demo/$file") } @blocks), "docs/lab.md shows demo/$file as it is");
}

# Every function and view for rows that a person may use is explained.
my $rows = slurp('docs/rows.md');
my $reference = slurp('docs/reference.md');
my %names = map { $_ => 1 } $reference =~ /^\| `(?:tide\.)?((?:region|class|table|link|pending|stamp|rows)_\w+|links|lag|slo)\b/mg;
delete $names{region_name};
cmp_ok(scalar keys %names, '>=', 12, 'the reference knows ' . join ' ', sort keys %names);
like($rows, qr/\btide\.$_\b/, "docs/rows.md explains tide.$_") for sort keys %names;

# Error codes of rows that a person may meet are in the runbook or in rows.md.
my $operations = slurp('docs/operations.md');
like("$rows$operations", qr/`$_`/, "$_ is explained") for qw(TD011 TD012 TD013 TD014 TD015 TD020);

# Links between documents point at something that is there.
for my $page (map { s{^\Q$ENV{TIDE_TOP}\E/}{}r } glob("$ENV{TIDE_TOP}/*.md $ENV{TIDE_TOP}/docs/*.md"))
{
	my ($folder) = $page =~ m{^(.*/)?[^/]+$};
	my @broken = grep { !-e "$ENV{TIDE_TOP}/" . ($folder // '') . $_ } slurp($page) =~ /\]\((?!https?:|#)([^)#]+)[^)]*\)/g;
	is_deeply(\@broken, [], "links of $page");
}

# ---- the lab, step by step, with the files as they are ----

my $LOGICAL = join "\n", map { /^ALTER SYSTEM SET (\w+) = (\w+);$/m ? "$1 = $2" : () } map { split /\n/ } $blocks[0];
my $us = PgTide::Region->make('us', create => 0, conf => "$LOGICAL\n");
my $eu = PgTide::Region->make('eu', create => 0);
is($us->safe_psql('postgres', 'SHOW wal_level'), 'logical', 'the settings of step 1');
isnt($eu->safe_psql('postgres', 'SHOW wal_level'), 'logical', 'eu-west needs none');
for my $node ($us, $eu)
{
	$node->safe_psql('postgres', 'CREATE DATABASE lab');
	$node->run_file("$ENV{TIDE_TOP}/demo/lab-" . $node->name . '.sql', 'lab');
}
sub conninfo { my ($node) = @_; return sprintf 'host=%s port=%s dbname=lab user=replicator', $node->host, $node->port; }

my $relay = PgTide::Relay->new(name => 'lab', conninfo => conninfo($eu), env => { US_EAST => conninfo($us) });
$relay->start;
my ($link) = grep { /FROM tide\.links/ } @blocks;
ok(defined wait_until(sub { $eu->safe_psql('lab', $link) eq 'us-east|direct|streaming' }, 60, 'the link'), 'the link streams, as step 4 says');
$us->run_file("$ENV{TIDE_TOP}/demo/lab-use.sql", 'lab');
ok(defined wait_until(sub { $eu->safe_psql('lab', q{SELECT count(*) FROM users WHERE name = 'Dave Park'}) }, 30, 'Dave Park'),
	'Dave Park has come to eu-west');
wait_until(sub { $eu->safe_psql('lab', q{SELECT status FROM orders WHERE id = 1}) eq 'shipped' }, 30, 'order 1');

# What step 6 prints is what there is.
my ($look) = grep { /SELECT id, email, name/ } @blocks;
my @printed = map { s/^\s+|\s+$//gr =~ s/\s*\|\s*/|/gr } grep { /\S/ && !/--|\bid\b/ }
  map { split /\n/ } $lab =~ /## 6\..*?^```\n(.*?)## 7/ms;
is_deeply([ split /\n/, $eu->safe_psql('lab', $look) ], \@printed, 'step 6 prints what there is');

my ($slot) = grep { /confirmed_flush_lsn/ } @blocks;
like($us->safe_psql('lab', $slot), qr/^tide_link_eu_west_[0-9a-f_]{17}\|t\|/, 'step 7: one slot, active, named as shown');
my ($named) = $lab =~ /(tide_link_eu_west_[0-9a-f_]{17})/;
is($us->safe_psql('lab', 'SELECT slot_name FROM pg_replication_slots'), $named, '... to the letter');
my ($lag) = grep { /FROM tide\.lag/ } @blocks;
like($eu->safe_psql('lab', $lag), qr/^us-east\|shop\|[\d.]+\|\d+$/, '... and the lag in seconds');
{
	local $ENV{US_EAST} = conninfo($us);
	my $out = `$ENV{TIDE_TOP}/build/pg_tide doctor -d "${\conninfo($eu)}"`;
	is($? >> 8, 0, 'the doctor has nothing to say') or diag($out);
}
$eu->safe_psql('lab', q{SELECT tide.link_remove('us-east')});
ok(defined wait_until(sub { $us->safe_psql('lab', 'SELECT count(*) FROM pg_replication_slots') == 0 }, 30, 'no slot'),
	'cleaning up: the slot is dropped');
ok(defined wait_until(sub { $eu->safe_psql('lab', 'SELECT count(*) FROM tide.links') == 0 }, 30, 'no link'), '... and the link is gone');
is($eu->safe_psql('lab', 'SELECT count(*) FROM users'), 4, '... and what it brought stays');
is($relay->stop, 0, 'the relay ends with status 0');
$_->stop for $us, $eu;
done_testing();
